"""The ten categories of the demo model, with COCO's ids and names, and the icons that show each.

A person looked at every icon. Left out on purpose are people on bicycles, horses or boats (two
categories at once), lions and tigers, unicorns and zebras, and pictures that are wrong or unclear
(fxemoji's running, ship and sailboat; its smiling cats are foxes).
"""

from __future__ import annotations

from typing import NamedTuple


class SceneCategory(NamedTuple):
    """A category of the scenes; its place in `CATEGORIES` is its row of the class head."""

    id: int
    name: str


CATEGORIES: tuple[SceneCategory, ...] = (
    SceneCategory(1, "person"),
    SceneCategory(2, "bicycle"),
    SceneCategory(3, "car"),
    SceneCategory(5, "airplane"),
    SceneCategory(6, "bus"),
    SceneCategory(9, "boat"),
    SceneCategory(16, "bird"),
    SceneCategory(17, "cat"),
    SceneCategory(18, "dog"),
    SceneCategory(19, "horse"),
)


# Names that the sets derived from the Unicode names share; a set may lack some of them.
_SHARED: dict[str, tuple[str, ...]] = {
    "person": (
        *("person", "man", "woman", "boy", "girl", "child", "old-man", "old-woman"),
        *("older-person", "baby", "man-standing", "woman-standing", "person-standing"),
        *("man-walking", "woman-walking", "person-walking"),
        *("man-running", "woman-running", "person-running", "man-dancing", "woman-dancing"),
        *("man-kneeling", "woman-kneeling", "person-kneeling"),
        *("police-officer", "man-police-officer", "woman-police-officer"),
        *("construction-worker", "man-construction-worker", "woman-construction-worker"),
        *("guard", "woman-guard", "man-pilot", "woman-pilot", "man-astronaut", "woman-astronaut"),
        *("man-office-worker", "woman-office-worker", "man-firefighter", "woman-firefighter"),
        *("man-farmer", "woman-farmer", "man-health-worker", "woman-health-worker"),
        *("woman-with-headscarf", "person-wearing-turban", "man-wearing-turban"),
        *("man-beard", "woman-blond-hair", "woman-curly-hair", "man-red-hair", "man-white-hair"),
    ),
    "bicycle": ("bicycle",),
    "car": (
        *("automobile", "oncoming-automobile", "oncoming-police-car", "oncoming-taxi"),
        *("police-car", "racing-car", "sport-utility-vehicle", "taxi"),
    ),
    "airplane": ("airplane", "small-airplane"),
    "bus": ("bus", "oncoming-bus", "trolleybus", "minibus"),
    "boat": ("canoe", "ferry", "motor-boat", "passenger-ship", "sailboat", "ship", "speedboat"),
    "bird": (
        *("baby-chick", "bird", "black-bird", "blackbird", "chicken", "dodo", "dove", "duck"),
        *("eagle", "flamingo", "front-facing-baby-chick", "goose", "hatching-chick", "owl"),
        *("parrot", "peacock", "penguin", "rooster", "swan", "turkey"),
    ),
    "cat": (
        *("cat", "black-cat", "cat-face", "cat-with-wry-smile", "grinning-cat"),
        *("grinning-cat-with-smiling-eyes", "kissing-cat", "pouting-cat", "weary-cat"),
        *("cat-face-with-wry-smile", "grinning-cat-face", "pouting-cat-face", "weary-cat-face"),
        *("kissing-cat-face", "grinning-cat-face-with-smiling-eyes"),
    ),
    "dog": ("dog", "dog-face", "guide-dog", "poodle", "service-dog"),
    "horse": ("horse", "horse-face"),
}

# Skin tones are added to people seen in full and to the plain portraits.
_TONED = (
    *("person", "man", "woman", "boy", "girl", "man-standing", "woman-standing"),
    *("man-walking", "woman-walking", "person-walking", "man-running", "woman-running"),
    *("man-dancing", "woman-dancing", "police-officer"),
)
_TONE_SUFFIXES = (
    *("light", "medium", "dark"),
    *("light-skin-tone", "medium-skin-tone", "dark-skin-tone"),
)

_FXEMOJI: dict[str, tuple[str, ...]] = {
    "person": (
        *("man", "woman", "boy", "girl", "baby", "walking", "dancer", "cop", "construct"),
        *("guardsman", "blonde", "turban"),
    ),
    "bicycle": ("bicycle",),
    "car": (
        *("automobile", "oncomingautomobile", "oncomingpolicecar", "oncomingtaxi"),
        *("policecar", "racecar", "taxi"),
    ),
    "airplane": ("airplane",),
    "bus": ("bus", "oncomingbus", "trolleybus", "minibus"),
    "boat": ("speedboat",),
    "bird": (
        *("babychick", "bird", "chicken", "doveofpeace", "frontfacingchick", "hatchingchick"),
        *("penguin", "rooster"),
    ),
    "cat": ("cat", "catside"),
    "dog": ("dog", "dogside", "poodle"),
    "horse": ("horse", "horseface"),
}

# Things of no category, so that "an icon" alone is no evidence of an object.
_SHARED_DISTRACTORS = (
    *("house", "deciduous-tree", "evergreen-tree", "palm-tree", "cactus", "tulip", "sunflower"),
    *("rose", "mushroom", "red-apple", "banana", "grapes", "watermelon", "strawberry", "carrot"),
    *("hamburger", "pizza", "doughnut", "birthday-cake", "teacup-without-handle", "beer-mug"),
    *("soccer-ball", "basketball", "tennis", "balloon", "wrapped-gift", "trophy", "guitar"),
    *("trumpet", "drum", "alarm-clock", "mantelpiece-clock", "light-bulb", "candle", "key"),
    *("hammer", "wrench", "scissors", "umbrella", "briefcase", "backpack", "books", "television"),
    *("laptop", "mobile-phone", "camera", "telephone", "chair", "couch-and-lamp", "bed", "toilet"),
    *("traffic-light", "fuel-pump", "anchor", "tent", "castle", "office-building", "church"),
    *("sun", "cloud", "crescent-moon", "star", "snowflake", "fire", "high-heeled-shoe", "t-shirt"),
    *("top-hat", "crown", "gem-stone", "bell", "magnet", "toolbox", "shopping-cart", "globe"),
)
_FXEMOJI_DISTRACTORS = (
    *("housebuilding", "deciduoustree", "evergreen", "palmtree", "cactus", "tulip", "sunflower"),
    *("mushroom", "redapple", "banana", "grapes", "watermelon", "strawberry", "hamburger"),
    *("sliceofpizza", "doughnut", "birthdaycake", "beermug", "soccerball", "balloon", "present"),
    *("trophy", "guitar", "trumpet", "alarmclock", "lightbulb", "candle", "hammer", "wrench"),
    *("blackscissors", "umbrella", "briefcase", "books", "television", "camera", "seat", "toilet"),
    *("fuelpump", "anchor", "tent", "church", "cloud", "star", "fire", "tophat", "crown", "bell"),
)


def category_icons(artwork_set: str) -> dict[str, tuple[str, ...]]:
    """Return the icon names of each category to look for in `artwork_set`."""
    if artwork_set == "fxemoji":
        return _FXEMOJI
    toned = tuple(f"{name}-{suffix}" for name in _TONED for suffix in _TONE_SUFFIXES)
    return {**_SHARED, "person": _SHARED["person"] + toned}


def distractor_icons(artwork_set: str) -> tuple[str, ...]:
    """Return the icon names of no category to look for in `artwork_set`."""
    return _FXEMOJI_DISTRACTORS if artwork_set == "fxemoji" else _SHARED_DISTRACTORS


def wanted_icons(artwork_set: str) -> set[str]:
    """Return the names of the icons that scenes are made of; a set need not hold all of them."""
    return set(distractor_icons(artwork_set)).union(*category_icons(artwork_set).values())
