"""What a network is: architectures, heads, restoring, running over arrays of any length."""


def from_keras(model, **options):
    """A Keras classifier of another hand as a `Network`; arguments of `networks.foreign.from_keras`."""
    from networks import foreign  # TensorFlow, which the rows of this room do not need

    return foreign.from_keras(model, **options)
