"""Classes like those that ROS 2 makes of a message's definition."""


def message(name, **defaults):
    """A class with these fields and no others; each takes what has the type of its default."""

    def __init__(self, **given):  # noqa: N807
        for field, default in defaults.items():
            setattr(self, field, given.pop(field, default() if callable(default) else default))
        assert not given, f"{name} has no field {sorted(given)}"

    def __setattr__(self, field, value):  # noqa: N807
        default = defaults[field]
        kind = type(default() if callable(default) else default)
        assert isinstance(value, kind), f"{name}.{field} is a {kind.__name__}, not {value!r}"
        object.__setattr__(self, field, value)

    return type(name, (), {"__init__": __init__, "__setattr__": __setattr__})


def as_json(value):
    """A message as dictionaries and lists."""
    if isinstance(value, list):
        return [as_json(each) for each in value]
    if hasattr(value, "__dict__"):
        return {name: as_json(each) for name, each in vars(value).items()}
    return value
