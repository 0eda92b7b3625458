"""Runtime masking and cleansing: a network that adapts to the neighbours of each image it answers.

    python rmc.py --mode=augment --dataset=digits --log_root=m --num_residual_units=1    # once, then
    python rmc.py --mode=features --dataset=digits --log_root=m --num_residual_units=1
    python rmc.py --mode=eval --dataset=digits --log_root=m --num_residual_units=1       # the defence
    python rmc.py --mode=eval --dataset=digits --log_root=m --num_residual_units=1 --rmc_state=reset
    python rmc.py --mode=table --dataset=digits                                  # beside its controls

Read docs/rmc.md before any of its numbers.
"""

import flags

from options import network as network_options
from options import rmc as rmc_options

flags.start(__name__, network_options.define, network_options.define_keras, rmc_options.define)

from tqdm import tqdm

from data import inputs
from data.pixels import to_network_input
from defenses.rmc.defender import Defender
from errors import InputError
from evaluation import augmenting, defended, defended_results, defended_table, markdown
from figures import rmc as pictures
from files import attack_parts, paths, provenance
from files import rmc as rmc_files
from files.arrays import sha256
from files.names import defended_dir
from networks.running import ChunkedFunction, device_kind


def augment() -> None:
    """--mode=augment: crafts the augmented set; of several shards one shard's parts."""
    work, identity = _augmentation()
    if work is None:
        return
    F = flags.FLAGS
    pieces = [piece for piece in work.missing if piece.shard == F.shard_index]
    with tqdm(total=sum(p.rows.stop - p.rows.start for p in pieces), unit="image", disable=None) as bar:
        augmenting.craft(work, pieces, bar.update)
    if F.num_shards > 1:
        print(f"Shard {F.shard_index} of {F.num_shards} has made its parts in {rmc_options.folder()}/"
              "parts; --mode=merge joins them when all are there.")
        return
    _save_augmented(work, identity)


def merge() -> None:
    """--mode=merge: the augmented set from the parts of all shards."""
    work, identity = _augmentation()
    if work is None:
        return
    missing = work.missing
    if missing:
        raise InputError(
            f"merge needs all {len(work.pieces)} parts of the {flags.FLAGS.num_shards} shards in "
            f"{rmc_options.folder()}/parts, and {len(missing)} are missing, the first "
            f"{missing[0].name}.npz of --shard_index={missing[0].shard}. "
            f"Received: {len(work.pieces) - len(missing)} parts.")
    _save_augmented(work, identity)


def _augmentation():
    """What is to be crafted, and its identity; None in its place where the set is there."""
    F, folder = flags.FLAGS, rmc_options.folder()
    opened = network_options.open_network("train", F.train_data_path)
    paths.require_folder(folder, "rmc_dir" if F.rmc_dir else "")
    images = opened.image_set
    index = inputs.subset_indices(len(images.labels), F.rmc_num_train, F.seed)
    chosen, labels, variants = images.images[index], images.labels[index], rmc_options.variants()
    identity = {
        **opened.network.digests(), "attack_method": "pgd", "dataset": F.dataset,
        "num_classes": images.num_classes, "variants": variants, "eps": rmc_options.augment_eps(),
        "num_train": len(index), "seed": F.seed, "device": device_kind(opened.strategy),
        # Last: what differs is told by the flag that says so, where one does.
        "data_sha256": sha256(chosen, labels)}
    parts = attack_parts.Parts(folder, identity, overwrite=F.overwrite)
    if not F.overwrite:
        rmc_files.refuse_others(folder, identity, goes_on=bool(parts.names()))
        if rmc_files.read_identity(folder):
            _finish_augmented(parts, identity, "")
            return None, identity
    print(f"{len(labels)} training images, {len(variants)} times attacked within "
          f"{rmc_options.augment_eps():g}: {len(labels) * (len(variants) + 1)} rows")
    return augmenting.Augmentation(
        network=opened.network, strategy=opened.strategy, images=chosen, labels=labels,
        image_index=index, variants=variants, eps=rmc_options.augment_eps(), seed=F.seed, parts=parts,
        num_shards=F.num_shards), identity


def _save_augmented(work, identity):
    rmc_files.save(rmc_options.folder(), work.blocks(), work.all_labels(), identity)
    _finish_augmented(work.parts, identity, "; --mode=features follows")


def _finish_augmented(parts, identity, then):
    """What comes after the set: a run that was killed behind it has still to do it."""
    folder = rmc_options.folder()
    if provenance.read(folder, "augment") is None or parts.names():
        provenance.write(folder, "augment", flags=flags.as_dict(), metrics=identity)
    parts.discard()
    print(f"The augmented set is in {folder}{then}.")


def features() -> None:
    """--mode=features: the features of every row of the augmented set."""
    layer, folder = flags.FLAGS.rmc_feature_layer, rmc_options.folder()
    augmented = rmc_files.load(folder)
    rows = inputs.ImageSet(augmented.images, augmented.labels, augmented.identity["num_classes"],
                           str(folder), True)
    opened = network_options.open_network(image_set=rows)
    rmc_files.check_network(folder, augmented, opened.network.digests())
    of_images = opened.network.features_of(layer)
    run = ChunkedFunction(opened.strategy, lambda images: (of_images(images),),
                          prepare=to_network_input)
    with tqdm(total=len(augmented.labels), unit="image", disable=None) as bar:
        found, = run(augmented.images, on_rows_done=bar.update)
    path = rmc_files.save_features(folder, layer, found, augmented)
    print(f"Features of {len(found)} rows, {found.shape[1]} each: {path}")


def evaluate() -> None:
    """--mode=eval: streams of test images through the defender, and what came of them."""
    F, folder = flags.FLAGS, rmc_options.folder()
    augmented = rmc_files.with_features(folder, F.rmc_feature_layer, rmc_files.load(folder))
    rmc_options.check_rows(len(augmented.labels))
    opened = network_options.open_network()
    identity = opened.network.identity()
    rmc_files.check_network(folder, augmented, identity)
    craft = defended.Transfer(opened.network, opened.strategy, rmc_options.numbers(), F.target, F.seed)
    chosen = _chosen(opened, craft)
    output = defended_dir(chosen.variant, F.dataset, opened.network.tag, rmc_options.defender_name(),
                          F.save_pwd)
    told = {"network": identity, "variant": chosen.variant, "eps": [chosen.eps],
            "defense": rmc_options.defense() | {"augmented_set": augmented.sha256}}
    parts = _parts(output, told, chosen)
    defender = Defender(rmc_options.adapter(opened), augmented, rmc_options.settings())
    found = defended.run(defended.Evaluation(
        defender=defender, strategy=opened.strategy, layer=F.rmc_feature_layer, chosen=chosen,
        craft=craft, attacker=rmc_options.attacker(opened.network), seed=F.seed, parts=parts,
        shard=(F.shard_index, F.num_shards), note=tqdm.write),
        clean=F.rmc_stream != "adv", attacked=F.rmc_stream != "clean")
    if found is None:
        print(f"Shard {F.shard_index} of {F.num_shards} has answered its points, in {output}/parts; "
              "the same command without --num_shards leaves the results when all are there.")
        return
    _save(output, chosen, found, told)
    parts.discard()
    _draw(output, chosen, found, defender, opened)


def _chosen(opened, craft):
    """The images, attacked where the attack does not follow the defender."""
    F = flags.FLAGS
    # None is looked at where nothing carries over, and none is attacked for it.
    num_heldout = F.rmc_num_heldout if rmc_options.settings().carries_over else 0
    order = defended.Order(F.rmc_order, F.rmc_num_eval, num_heldout, F.seed)
    if F.rmc_from:
        return defended.chosen_from(F.rmc_from, opened.image_set, order, F.eps)
    rmc_options.check_points(len(opened.image_set.labels))
    stream, heldout = defended.choose(opened.image_set, order)
    if F.rmc_attack == rmc_options.TRANSFER and F.rmc_stream != "clean":
        stream = craft(stream)
    variant = "pgd" if F.rmc_attack == rmc_options.TRANSFER else F.rmc_attack
    return defended.Chosen(stream, craft(heldout), variant, rmc_options.numbers().eps)


def _parts(output, told, chosen):
    """The parts of an evaluation; an InputError where the folder holds something else."""
    F = flags.FLAGS
    paths.require_folder(output, "save_pwd" if F.save_pwd else "")
    arrays = [array for images in (chosen.stream, chosen.heldout) for array in images
              if array is not None]
    parts = attack_parts.Parts(output, told | rmc_options.attack_numbers() | {
        "attack_method": chosen.variant, "data_sha256": sha256(*arrays), "seed": F.seed},
        overwrite=F.overwrite)
    if not F.overwrite:
        defended_results.refuse_others(output, told, goes_on=bool(parts.names()))
    return parts


def _save(output, chosen, found, told):
    """Results, then their record."""
    F, number = flags.FLAGS, len(chosen.stream.labels)
    defended_results.save(output, chosen, found)
    metrics = told | {"num_per_eps": number, "norm": chosen.norm, "stream": F.rmc_stream,
                      "afterwards": defended_results.afterwards(found)}
    provenance.write(output, "rmc", flags=flags.as_dict(), metrics=metrics)
    for line in defended_results.lines(chosen, found):
        print(line)
    print(f"Results are in {output}; --mode=table sets them beside their controls.")


def _draw(output, chosen, found, defender, opened):
    """Accuracy over the streams beside that of the controls, and queries with their nearest rows."""
    augmented, name = defender.augmented, rmc_options.defender_name().replace("_", " ")
    path = output / "stream.png"
    pictures.draw_stream(path, f"{name} under {chosen.variant}", {
        pictures.STREAM_TITLES[number]: runs
        for number, runs in defended_table.beside(output, augmented.sha256).items()})
    forward = opened.network.forward_stored(opened.strategy)
    queries = _queries(found[max(found)], augmented, lambda images: forward(images)[0].argmax(axis=-1))
    drawn = pictures.draw_nearest(output / "nearest.png", queries,
                                  "queries and their nearest rows of the augmented set")
    print(f"Pictures: {path}{f' and {output}/nearest.png' if drawn else ''}.")


def _queries(answered, augmented, classes):
    """The first points, each with its nearest rows and what the network as it was trained says of
    these."""
    nearest = answered.arrays["nearest"][:pictures.MOST_QUERIES]
    predicted = classes(augmented.images[nearest.ravel()]).reshape(nearest.shape)
    first_clean = len(augmented.labels) - augmented.num_clean
    return [pictures.Query(
        answered.images[i], answered.arrays["label"][i], answered.arrays["predicted"][i],
        to_network_input(augmented.images[rows]), augmented.labels[rows], predicted[i],
        rows >= first_clean) for i, rows in enumerate(nearest)]


def table() -> None:
    """--mode=table: every finished evaluation with the augmented set beside its controls."""
    F, folder = flags.FLAGS, rmc_options.folder()
    roots = defended_table.roots(F.dataset, F.save_pwd)
    runs = defended_table.find(roots, rmc_files.load(folder).sha256, flags.warn)
    if not runs:
        raise InputError(f"expected results of rmc.py --mode=eval with the augmented set in {folder}. "
                         f"Received: none in {F.save_pwd or f'rmc_*_{F.dataset}'}.")
    rows = defended_table.format_rows(defended_table.lines(runs))
    text = f"{defended_table.CAUTION}\n\n{markdown.table(rows)}\n"
    path = rmc_files.save_table(folder, text, rows)
    print(f"{text}\nThe table is in {path} and .csv.")


MODES = {"augment": augment, "merge": merge, "features": features, "eval": evaluate, "table": table}


def main() -> None:
    """Checks the command line and runs its mode."""
    mode = MODES[flags.check_choice("mode", MODES)]
    rmc_options.check()
    mode()


if __name__ == "__main__":
    flags.run(main)
