"""A decoder of latents from docs/codecs.md, value by value, without numpy and without haste.

It shares nothing with common/codec but the tables that it is given.
"""

BLOCKS = {
    1: [int(digit, 16) for digit in "34454556455656674556566656665667"],
    2: [
        int(digit, 16)
        for digit in "244646684668688a466868896889899c466868796779799b6779799b799b9bbc"
    ],
}
LEAST_ODDS = [6, 16, 25, 33, 45, 56, 67, 79, 90, 100, 112]
FILLED = [8, 20, 32, 48, 64, 80, 100, 124, 152, 188]
AROUND_BEFORE = [1, 3, 6, 12, 24, 48, 96]
CELL = [1, 10, 20, 33, 51, 77, 102, 141]
AROUND = [1, 5, 10, 20, 33, 51, 77, 102]
CURVE = [-8, -4, -2, -1, 0, 1, 2, 3, 5, 9]
MOTION = [-26, -13, -6, -3, -1, 0, 1, 3, 6, 13, 26]


def words_of(lengths):
    """Word (as a string of bits) -> block."""
    words, word, before = {}, 0, 0
    for block in sorted(range(len(lengths)), key=lambda each: (lengths[each], each)):
        word <<= lengths[block] - before
        before = lengths[block]
        words[format(word, f"0{before}b")] = block
        word += 1
    return words


WORDS = {code: words_of(lengths) for code, lengths in BLOCKS.items()}


class Reader:
    """Bits, and the decisions that are left of each code."""

    def __init__(self, data):
        self.bits = "".join(format(byte, "08b") for byte in data)
        self.place = 0
        self.left = {code: [] for code in range(12)}

    def take(self, count):
        taken = self.bits[self.place : self.place + count]
        assert len(taken) == count
        self.place += count
        return taken

    def word(self, code):
        if code == 0:
            return [int(self.take(1))]
        if code in BLOCKS:
            word = ""
            while word not in WORDS[code]:
                word += self.take(1)
            return [int(bit) for bit in format(WORDS[code][word], f"0{4 + code}b")]
        width = code - 1
        if self.take(1) == "0":
            return [0] * 2**width
        return [0] * int(self.take(width), 2) + [1]

    def step(self, odds):
        codes = [sum(abs(each) >= least for least in LEAST_ODDS) for each in odds]
        answers = [None] * len(odds)
        for code in range(12):
            for index, each in enumerate(odds):
                if codes[index] == code:
                    if not self.left[code]:
                        self.left[code] = self.word(code)
                    answers[index] = bool(self.left[code].pop(0)) != (each > 0)
        return answers

    def end(self):
        rest = self.bits[self.place :]
        assert len(rest) < 8
        assert "1" not in rest


def class_of(value, bounds):
    return sum(value >= bound for bound in bounds)


def groups_of(channels):
    bounds = [channels * index // 4 for index in range(5)]
    return [range(first, last) for first, last in zip(bounds, bounds[1:])]


def around(row, column, rows, columns, corners):
    """The cells beside a cell, with those across the corners or without."""
    for down in (-1, 0, 1):
        for right in (-1, 0, 1):
            inside = 0 <= row + down < rows and 0 <= column + right < columns
            if (down or right) and inside and (corners or not (down and right)):
                yield row + down, column + right


def rest_of(reader, tables, frame, channels):
    """What magnitudes have beyond 2, in the given channels."""
    rest = [0] * len(channels)
    still = list(range(len(channels)))
    more, longer = tables[f"{frame}_more"], tables[f"{frame}_longer"]
    for step in range(6):
        odds = [more["channel"][channels[each]] + more["step"][step] for each in still]
        answers = reader.step(odds)
        still = [each for each, answer in zip(still, answers) if answer]
        for each in still:
            rest[each] += 1
    large, widths = list(still), dict.fromkeys(still, 0)
    for width in range(16):
        answers = reader.step([longer["bits"][width]] * len(still))
        still = [each for each, answer in zip(still, answers) if answer]
        for each in still:
            widths[each] += 1
    assert not still
    for each in large:
        bits = "".join(str(int(bit)) for bit in reader.step([0] * widths[each]))
        rest[each] += int("1" + bits, 2) - 1
    return rest


def key_frame(reader, tables, shape):
    """Levels by (channel, row, column)."""
    channels, rows, columns = shape
    levels = {}
    for part in (0, 1):
        cells = [(y, x) for y in range(rows) for x in range(columns) if (y + x) % 2 == part]
        agree, signs = {}, {}
        for y, x in cells:
            for c in range(channels):
                beside = around(y, x, rows, columns, corners=False)
                total = sum(levels[(c, *cell)] for cell in beside) if part else 0
                agree[c, y, x] = 1 + abs(total) if part else 0
                signs[c, y, x] = 9 + total if part else 0
        some = {}
        for group, members in enumerate(groups_of(channels)):
            places = [(c, y, x) for c in members for y, x in cells]
            odds = []
            for c, y, x in places:
                before = members[0]
                filled = 0
                if before:
                    count = sum(some[other, y, x] for other in range(before))
                    filled = 1 + 11 * (group - 1) + class_of(256 * count // before, FILLED)
                table = tables["key_some"]
                odds.append(
                    table["channel"][c] + table["agree"][agree[c, y, x]] + table["cell"][filled]
                )
            some.update(zip(places, reader.step(odds)))
        places = [place for place in sorted(some) if some[place]]
        odds = []
        for c, y, x in places:
            table = tables["key_positive"]
            odds.append(table["channel"][c] + table["signs"][signs[c, y, x]])
        for c, y, x in places:
            filled = sum(some[other, y, x] for other in range(channels))
            table = tables["key_two"]
            odds.append(
                table["channel"][c]
                + table["agree"][agree[c, y, x]]
                + table["filled"][class_of(256 * filled // channels, FILLED)]
            )
        answers = reader.step(odds)
        levels.update(dict.fromkeys(some, 0))
        for index, place in enumerate(places):
            size = 2 if answers[len(places) + index] else 1
            levels[place] = size if answers[index] else -size
    twos = [place for place in sorted(levels) if abs(levels[place]) == 2]
    for place, rest in zip(twos, rest_of(reader, tables, "key", [each[0] for each in twos])):
        levels[place] += rest if levels[place] > 0 else -rest
    return levels


def next_frame(reader, tables, shape, reference, change):
    """Levels by (channel, row, column); `reference` and `change` are such too."""
    channels, rows, columns = shape
    cells = [(y, x) for y in range(rows) for x in range(columns)]
    had = {cell: sum(change[(c, *cell)] != 0 for c in range(channels)) for cell in cells}
    changed = {}
    table = tables["next_changed"]
    for group, members in enumerate(groups_of(channels)):
        places = [(c, y, x) for c in members for y, x in cells]
        odds = []
        for c, y, x in places:
            beside = list(around(y, x, rows, columns, corners=True))
            around_before = 256 * sum(had[cell] for cell in beside) // (8 * channels)
            before = members[0]
            there = 0
            if before:
                count = sum(changed[(other, *cell)] for cell in beside for other in range(before))
                there = 1 + 9 * (group - 1) + class_of(256 * count // (8 * before), AROUND)
            odds.append(
                table["level"][4 * c + min(3, abs(reference[c, y, x]))]
                + table["before"][int(change[c, y, x] != 0)]
                + table["around_before"][class_of(around_before, AROUND_BEFORE)]
                + table["around"][there]
            )
        changed.update(zip(places, reader.step(odds)))
    small = {place: max(-127, min(127, level)) for place, level in reference.items()}
    step = {place: max(-127, min(127, value)) for place, value in change.items()}

    def slope(c, y, x, down, right):
        """From one neighbour to the other; beyond the edge lies what is here."""
        here = small[c, y, x]
        return small.get((c, y - down, x - right), here) - small.get((c, y + down, x + right), here)

    def motion(c, y, x):
        total = 0
        for down, right in ((1, 0), (0, 1)):
            power, match = 1, 0
            for cell in [(y, x), *around(y, x, rows, columns, corners=True)]:
                for other in range(channels):
                    one = slope(other, *cell, down, right)
                    power += one * one
                    match += one * step[(other, *cell)]
            total += 64 * match // power * slope(c, y, x, down, right)
        return total

    places = [place for place in sorted(changed) if changed[place]]
    odds = []
    for c, y, x in places:
        here = small[c, y, x]
        beside = around(y, x, rows, columns, corners=False)
        curve = sum(small[(c, *cell)] - here for cell in beside)
        table = tables["next_up"]
        odds.append(
            table["level"][7 * c + 3 + max(-3, min(3, here))]
            + table["curve"][class_of(curve, CURVE)]
            + table["motion"][class_of(motion(c, y, x), MOTION)]
        )
    for c, y, x in places:
        count = sum(changed[other, y, x] for other in range(channels))
        table = tables["next_two"]
        odds.append(
            table["level"][4 * c + min(3, abs(small[c, y, x]))]
            + table["cell"][class_of(256 * count // channels, CELL)]
        )
    answers = reader.step(odds)
    up = dict(zip(places, answers))
    twos = [place for place, two in zip(places, answers[len(places) :]) if two]
    sizes = dict.fromkeys(places, 1)
    for place, rest in zip(twos, rest_of(reader, tables, "next", [each[0] for each in twos])):
        sizes[place] = 2 + rest
    levels = dict(reference)
    for place, size in sizes.items():
        levels[place] += size if up[place] else -size
    return levels
