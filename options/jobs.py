"""Flags of others.py."""

import flags

from absl import flags as absl_flags

from files import paths


def define() -> None:
    """Flags of others.py alone."""
    flags.define_mode(
        "train", "kernel_para, tSNE_logits, export_bin, export_png, info, import_checkpoint, "
        "import_keras, export_checkpoint, export_model or export_pretrained")
    # These are accepted for the original's commands: nothing here reads total_steps or eval_once.
    flags.define_total_steps(100000)
    flags.define_lr_decay()
    flags.define_eval_batches(50)
    flags.define_eval_once()
    flags.define_path("eval_dir", "", "Accepted for the original's commands; not used.")
    flags.define_path(
        "output_dir", "", "Folder that export_png, export_model, export_pretrained, import_checkpoint "
        "and export_checkpoint write.")
    flags.define_path(
        "images", "", "An attack's nor_img.npy or adv_img.npy for export_png. Empty: the test images.",
        paths.EITHER)
    absl_flags.DEFINE_integer("num_images", 10, "Images that export_png writes, from the first on.")
    absl_flags.DEFINE_string(
        "data_note", "", "What the model card of export_pretrained says of the data, e.g. where from.")
    flags.define_path("weights", "", "Weights for import_keras: HDF5 of Keras 2, or a .keras.",
                      paths.FILE)
