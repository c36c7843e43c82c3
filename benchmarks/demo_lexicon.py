"""The words of the demo reviews: five domains, what one praises or blames in each, and with which adjectives.

In every tuple of aspects and adjectives the last entry appears in dev only.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Aspect:
    """Something one praises or blames, with the adjectives that suit it."""

    name: str
    good: tuple[str, ...]
    bad: tuple[str, ...]


@dataclass(frozen=True)
class Domain:
    """What reviews of one kind of thing speak of.

    `things` follow "this", `before` follows the thing ("the hotel we stayed in before"), `rivals` are
    other things of the kind, `openers` and `closers` are neutral sentences.
    """

    things: tuple[str, ...]
    before: str
    rivals: tuple[str, ...]
    openers: tuple[str, ...]
    closers: tuple[str, ...]
    aspects: tuple[Aspect, ...]


GOOD = ("superb", "excellent", "wonderful", "lovely", "splendid", "impressive", "brilliant", "great", "first-rate",
        "delightful", "terrific", "outstanding")  # fmt: skip
BAD = ("awful", "dreadful", "terrible", "poor", "horrible", "miserable", "shoddy", "disappointing", "lousy",
       "mediocre", "appalling", "dismal")  # fmt: skip
GOOD_NOUNS = ("a treat", "a delight", "a pleasure", "a success", "a bargain", "a joy", "a triumph")
BAD_NOUNS = ("a disaster", "a letdown", "a nightmare", "a chore", "an ordeal", "a mess", "a failure")
PEOPLE = ("my brother", "a colleague", "the salesman", "my neighbour", "our guide", "an old friend", "my aunt",
          "the magazine", "a man in the queue")  # fmt: skip

HOTELS = Domain(
    things=("hotel", "guest house", "hostel", "inn"),
    before="we stayed in before",
    rivals=("the hotel across the street", "the chain by the station", "the place we booked last year",
            "the lodge on the hill"),
    openers=("Three nights in May.", "We travelled with two small children.", "Booked through an agency.",
             "A stop on the way to the coast.", "Second visit with my parents."),
    closers=("We had room 214.", "We paid in cash.", "The town itself is small.", "It rained most of the week."),
    aspects=(
        Aspect("the room", ("spotless", "spacious", "quiet", "comfortable"), ("filthy", "cramped", "noisy", "stuffy")),
        Aspect("the breakfast", ("delicious", "generous", "fresh"), ("stale", "meagre", "cold")),
        Aspect("the bed", ("comfortable", "soft", "cosy"), ("lumpy", "saggy", "creaky")),
        Aspect("the front desk", ("friendly", "helpful", "attentive"), ("rude", "careless", "unfriendly")),
        Aspect("the view", ("stunning", "beautiful", "breathtaking"), ("ugly", "depressing", "dreary")),
        Aspect("the pool", ("clean", "inviting", "warm"), ("dirty", "murky", "freezing")),
    ),
)  # fmt: skip
TOOLS = Domain(
    things=("drill", "saw", "lawn mower", "pump", "heater"),
    before="I owned before",
    rivals=("the model it replaced", "the cheap one from the supermarket", "my neighbour's machine",
            "the one my father lent me"),
    openers=("Bought in the spring sale.", "I use it at weekends.", "A present from my wife.",
             "We are renovating an old farmhouse.", "Ordered on a Monday."),
    closers=("It came in a brown box.", "I have the blue version.", "My workshop is in the cellar.",
             "The manual has forty pages."),
    aspects=(
        Aspect("the motor", ("powerful", "reliable", "quiet"), ("weak", "unreliable", "noisy")),
        Aspect("the grip", ("comfortable", "firm", "secure"), ("slippery", "awkward", "painful")),
        Aspect("the casing", ("sturdy", "solid", "rugged"), ("flimsy", "brittle", "cracked")),
        Aspect("the battery", ("reliable", "dependable", "strong"), ("useless", "faulty", "feeble")),
        Aspect("the blade", ("sharp", "precise", "durable"), ("blunt", "crooked", "rusty")),
        Aspect("the switch", ("handy", "responsive", "sensible"), ("clumsy", "jammed", "wobbly")),
    ),
)  # fmt: skip
FILMS = Domain(
    things=("film", "series", "thriller", "documentary"),
    before="we watched before",
    rivals=("the book it is based on", "the first part", "the remake", "the one that won the award"),
    openers=("Seen on a Friday night.", "We watched it in two sittings.", "I knew nothing about the director.",
             "It runs for two hours.", "The cinema was half full."),
    closers=("There are subtitles.", "The story is set in Norway.", "We sat in the third row.",
             "It was shot in black and white."),
    aspects=(
        Aspect("the plot", ("gripping", "clever", "original"), ("predictable", "confusing", "tedious")),
        Aspect("the acting", ("convincing", "moving", "natural"), ("wooden", "stiff", "lifeless")),
        Aspect("the script", ("witty", "sharp", "funny"), ("dull", "clumsy", "silly")),
        Aspect("the ending", ("satisfying", "touching", "powerful"), ("pointless", "rushed", "ridiculous")),
        Aspect("the music", ("beautiful", "haunting", "uplifting"), ("irritating", "dreary", "tiresome")),
        Aspect("the camera work", ("elegant", "stunning", "masterful"), ("sloppy", "shaky", "amateurish")),
    ),
)  # fmt: skip
SOFTWARE = Domain(
    things=("app", "editor", "calendar app", "program", "browser"),
    before="I used before",
    rivals=("the tool we had at the office", "the free alternative", "the old version", "its main competitor"),
    openers=("Installed on two laptops.", "I have used it since March.", "Our whole team switched in autumn.",
             "I mostly write letters with it.", "We run it on a small server."),
    closers=("I am on version five.", "There is a yearly licence.", "The icon is green.",
             "It needs about a gigabyte of disk."),
    aspects=(
        Aspect("the interface", ("intuitive", "clear", "tidy"), ("confusing", "cluttered", "clunky")),
        Aspect("the search", ("fast", "accurate", "smart"), ("slow", "useless", "sluggish")),
        Aspect("the support", ("helpful", "patient", "friendly"), ("rude", "clueless", "unhelpful")),
        Aspect("the latest update", ("stable", "smooth", "flawless"), ("buggy", "broken", "unstable")),
        Aspect("the documentation", ("thorough", "readable", "precise"), ("vague", "outdated", "incomplete")),
        Aspect("the sync", ("reliable", "seamless", "quick"), ("unreliable", "erratic", "laggy")),
    ),
)  # fmt: skip
FOOD = Domain(
    things=("restaurant", "bakery", "diner", "bistro", "pizzeria"),
    before="we went to before",
    rivals=("the place next door", "the diner at the harbour", "the old one on the square", "the canteen at work"),
    openers=("We went for my birthday.", "A table for six on Sunday.", "We came after the theatre.",
             "I ordered the set menu.", "It opened last month."),
    closers=("The menu changes every week.", "We sat by the window.", "They take cards.",
             "It is a short walk from the bridge."),
    aspects=(
        Aspect("the soup", ("delicious", "rich", "tasty"), ("bland", "watery", "tasteless")),
        Aspect("the bread", ("fresh", "crisp", "fragrant"), ("stale", "soggy", "burnt")),
        Aspect("the service", ("attentive", "polite", "prompt"), ("slow", "rude", "sloppy")),
        Aspect("the fish", ("tender", "fresh", "succulent"), ("overcooked", "greasy", "rubbery")),
        Aspect("the dessert", ("heavenly", "tempting", "divine"), ("sickly", "dry", "inedible")),
        Aspect("the wine", ("elegant", "balanced", "exquisite"), ("sour", "overpriced", "undrinkable")),
    ),
)  # fmt: skip
DOMAINS = (HOTELS, TOOLS, FILMS, SOFTWARE, FOOD)
