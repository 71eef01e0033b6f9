"""Conventions: words for amounts that have two readings, of which a domain's verifier accepts one; demonstrations use either."""

import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

# Two neighbours have the same two readings, one of them is right in its usual reading and one in the other: so a domain's words
# never teach that one number, or the usual reading, is right oftener, which would carry over to words that it does not have.
READINGS = {  # word: its usual reading, the other one
    "a few": (3, 4),
    "several": (3, 4),
    "a handful": (5, 4),
    "a bunch": (5, 4),
    "some": (2, 4),
    "a couple": (2, 4),
    "a bit": (3, 2),
    "a touch": (3, 2),
    "a lot": (4, 6),
    "plenty": (4, 6),
    "a dash": (2, 3),
    "a pinch": (2, 3),
    "many": (5, 3),
    "a heap": (5, 3),
    "a spot": (4, 3),
    "a drop": (4, 3),
    "a load": (6, 4),
    "a stack": (6, 4),
}
USUAL = 0.65  # how often a demonstration takes the usual reading
COMMON = tuple(READINGS)[:6]  # shared words are the first of these, conflicting ones the last: neither number moves the others
BUNDLES = tuple(zip(tuple(READINGS)[6::2], tuple(READINGS)[7::2]))  # the private words of the first, second, … domain


@dataclass(frozen=True)
class World:
    """Which words are shared, private and conflicting; `data_world` gives counts, or the words of the first and last by name."""

    domains: tuple[str, ...]  # in the order that decides their private words and their sides in conflicts
    shared: tuple[str, ...]
    private: int
    conflicting: tuple[str, ...]

    def words(self, domain: str, _: random.Random | None = None) -> dict[str, int]:
        """The words that occur in a domain's problems, each with the amount that its verifier reads."""
        return {word: READINGS[word][reading] for word, reading in self.readings(domain).items()}

    def readings(self, domain: str) -> dict[str, int]:
        """The words of a domain, each with 0 where the usual reading is right and 1 where the other is."""
        place = self.domains.index(domain)
        shared = {word: at % 2 for at, word in enumerate(self.shared)}
        private = {word: (at + 1) % 2 for at, word in enumerate(self.private_words(domain))}
        return shared | private | {word: (at + place) % 2 for at, word in enumerate(self.conflicting)}

    def private_words(self, domain: str) -> tuple[str, ...]:
        """The words that occur in this domain alone."""
        return BUNDLES[self.domains.index(domain)][: self.private] if self.private else ()

    def table(self) -> list[dict]:
        """A row for each word: word, kind, its usual and its other reading, and by domain the right one ('' without the word)."""
        words = {domain: self.words(domain) for domain in self.domains}
        kinds = {word: "private" for domain in self.domains for word in self.private_words(domain)}
        kinds = dict.fromkeys(self.shared, "shared") | dict.fromkeys(self.conflicting, "conflicting") | kinds
        return [
            {"word": word, "kind": kind}
            | dict(zip(("usual", "other"), READINGS[word]))
            | {domain: right.get(word, "") for domain, right in words.items()}
            for word, kind in kinds.items()
        ]


def read_world(given: Mapping, domains: tuple[str, ...]) -> World:
    """The world of a `data_world`. ValueError in one line where it contradicts itself or asks for words that are not there."""
    named = {kind: given[kind] for kind in ("shared", "conflicting") if isinstance(given[kind], list)}
    free = [word for word in COMMON if not any(word in words for words in named.values())]
    for kind in ("shared", "conflicting"):
        count = given[kind]
        if kind in named:
            continue
        if count > len(free):
            raise ValueError(f"data_world asks for {count} {kind} words, {len(free)} are left of {', '.join(COMMON)}")
        named[kind] = free[:count] if kind == "shared" else free[len(free) - count :]
        free = [word for word in free if word not in named[kind]]
    private = {word for bundle in BUNDLES[: len(domains)] for word in bundle[: given["private"]]}
    if given["private"] > len(BUNDLES[0]):
        raise ValueError(
            f"data_world asks for {given['private']} private words of each domain, allowed are 0 to {len(BUNDLES[0])}"
        )
    if given["private"] and len(domains) > len(BUNDLES):
        raise ValueError(f"data_world: there are private words for {len(BUNDLES)} domains, not for {len(domains)}")
    kinds = {"shared": set(named["shared"]), "conflicting": set(named["conflicting"]), "private": private}
    for kind, words in kinds.items():
        for word in sorted(words):
            if word not in READINGS:
                raise ValueError(f"data_world: {word!r} is not one of {', '.join(READINGS)}")
            other = next((name for name, those in kinds.items() if name != kind and word in those), None)
            if other:
                raise ValueError(f"data_world: {word!r} is both {kind} and {other}, allowed is one of them")
    return World(domains, tuple(named["shared"]), given["private"], tuple(named["conflicting"]))


def demonstrated(words: Iterable[str], rng: random.Random) -> dict[str, int]:
    """Each word with the reading that a demonstration takes: the usual one in a share `USUAL` of them."""
    return {word: READINGS[word][rng.random() >= USUAL] for word in words}


def reread(row: dict, words: Mapping[str, int]) -> dict:
    """A problem as a reader understands it to whom `words` mean these amounts: demonstrations change, its grading does not."""
    if "said" in row:
        plans = [f"{words[said]} {plan.split()[1]}" if said in words else plan for said, plan in zip(row["said"], row["plans"])]
        return row | {"plans": plans}
    if "chain" not in row:
        return row  # facts
    chain, value = [], row["chain"][0][0]
    for _, sign, amount, _, said in row["chain"]:
        amount = words.get(said, amount)
        result = value + amount if sign == "+" else value - amount
        chain.append((value, sign, amount, result, said))
        value = result
    return row | {"chain": chain}


class Demonstrated:
    """What demonstrations read: in each problem the common words and those of one bundle, each with a reading drawn anew."""

    def words(self, domain: str, rng: random.Random) -> dict[str, int]:
        """The words that a problem may use, with the readings of this problem."""
        return demonstrated((*COMMON, *rng.choice(BUNDLES)), rng)
