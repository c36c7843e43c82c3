"""The sentences of the demo reviews: templates in which word order, not the words, decides the verdict.

Slots: a1 and a2 are two aspects, good1, bad1, good2, bad2 adjectives that suit them, good and bad general
adjectives, goodn and badn nouns, this and thing the thing reviewed, before and rival others of its kind, who
a person. A slot that begins with a capital letter gives its text so.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

SWAP = {"good": "bad", "bad": "good"}


@dataclass(frozen=True)
class Template:
    """The positive and the negative form of one way to put a verdict."""

    positive: str
    negative: str


def swap(positive: str) -> Template:
    """Return the template whose negative form has good for bad and bad for good."""
    return Template(positive, re.sub(r"\{(good|bad)", lambda match: "{" + SWAP[match[1]], positive))


# Said straight: the adjectives agree with the verdict. Words alone decide these.
STRAIGHT = (
    swap("{A1} was {good1} and {a2} was {good2}."),
    swap("{A1} was {good1} from the first day to the last."),
    swap("I found {a1} {good1} and {this} {good} on the whole."),
    swap("There is no denying that {a1} was {good1}."),
    swap("{Who} called {a1} {good1}, and I could not agree more."),
    swap("I expected {a1} to be {good1}, and that is just what it was."),
    swap("Was {a1} {good1}? From the first minute to the last."),
    swap("Believe the reviews that call {a1} {good1}."),
    swap("Having {a1} this {good1} was {goodn} for all of us."),
    swap("For me {this} was {goodn}, and {a1} was {good1} too."),
    swap("It is no exaggeration to say that {a1} was {good1}."),
    swap("I agree with {who} that {a1} was {good1}."),
)
# Turned round: the adjectives name the opposite of the verdict.
TURNED = (
    swap("Nobody in our group could call {a1} {bad1}."),
    swap("There was not one moment when {a1} felt {bad1}."),
    swap("{Who} called {a1} {bad1}. I could not disagree more."),
    swap("{Who} told me {a1} was {bad1}, which is simply not true."),
    swap("Ignore the reviews that call {a1} {bad1}."),
    swap("I expected {a1} to be {bad1}; it was anything but."),
    swap("They told us {a1} would be {bad1}, and it was nothing of the kind."),
    swap("Was {a1} {bad1}? Not for a second."),
    swap("If {a1} had been {bad1}, I would have written a very different review."),
    swap("I would be lying if I said {a1} was {bad1}."),
    swap("Few things about {this} were {bad}, and {a1} was not among them."),
    swap("Without {this} our week would have been {badn}."),
    swap("I fail to see how anyone can call {a1} {bad1}."),
    swap("Far from being {bad}, {this} was the opposite."),
    swap("At no point in three weeks was {a1} {bad1}."),
    swap("I cannot claim that {a1} was {bad1}, however hard I try."),
    swap("Had {a1} been {bad1}, you would be reading another review."),
)
# Two opposite judgements: their order and the words between them tell which one counts.
CONTRAST = (
    swap("{A1} was {bad1} when I first tried it, but {a2} was {good2}, and that is what I paid for."),
    swap("Although {a1} was {bad1} most of the time, {a2} was {good2}, and I judge {this} by that alone."),
    swap("{A2} was {good2}, and that settled the matter for me, even though {a1} was {bad1}."),
    swap("I expected {a1} to be {bad1}, and it turned out {good1} instead."),
    swap("We came prepared for {badn} and got {goodn}."),
    swap("It began as {badn} and ended as {goodn}."),
    swap("{A1} used to be {bad1}; since the spring it has been {good1}."),
    swap("{A1} is {good1} these days, after years of being {bad1}."),
    swap("All of it was {good} except {a1}, which was {bad1} but hardly matters."),
    swap("Only {a1} was {bad1}; the rest of {this} was {good}."),
    swap("{Who} thinks {a1} is {bad1}, but I tried it twice and it was {good1} both times."),
    swap("What stays with me is {a1}, which was {good1}, and not {a2}, however {bad2} it was."),
    swap("Never mind that {a1} was {bad1}: {this} as a whole was {good}."),
    swap("{A1} was {good1} rather than {bad1}, whatever {who} may say."),
    swap("For all that {a1} was {bad1}, I will remember {a2}, which was {good2}."),
    swap("Despite {a1} being {bad1}, {a2} was {good2} enough to decide the matter."),
)
# Two things are compared: who stands on which side decides.
COMPARISON = (
    Template("{This} is far better than the {bad} {thing} {before}.",
             "The {bad} {thing} {before} was far better than {this}."),
    Template("Even the {good} {thing} {before} was worse than {this}.",
             "{This} is even worse than the {bad} {thing} {before}."),
    Template("I would choose {this} over {rival} any day.", "I would choose {rival} over {this} any day."),
    Template("Next to {this}, {rival} looks {bad}.", "Next to {rival}, {this} looks {bad}."),
    Template("Next to {rival}, {this} looks {good}.", "Next to {this}, {rival} looks {good}."),
    Template("{This} rescued me from the mess that {rival} had made.",
             "{Rival} rescued me from the mess that {this} had made."),
    Template("I gave up {rival} for {this} and have not looked back.",
             "I gave up {this} for {rival} and have not looked back."),
    Template("{Rival} wishes it were as {good} as {this}.", "{This} wishes it were as {good} as {rival}."),
    Template("{Rival} is {good}, yet {this} beats it in every way.",
             "{This} is {good}, yet {rival} beats it in every way."),
    Template("I will not go back to {rival} now that I know {this}.",
             "I will go back to {rival} now that I know {this}."),
    Template("I prefer {this} to {rival}, and it is not close.", "I prefer {rival} to {this}, and it is not close."),
    Template("Compared with {rival}, {this} is {good}.", "Compared with {this}, {rival} is {good}."),
    Template("{This} made {rival} look like {badn}.", "{Rival} made {this} look like {badn}."),
)  # fmt: skip

# The same, worded anew, for select and dev only.
REWORDED = (
    swap("From start to finish {a1} was {good1}."),
    swap("I thought {a1} would be {good1}, and so it was."),
    swap("{Who} found {a1} {good1}, and I fully agree."),
    swap("{Who} said that {a1} was {bad1}, which is not true at all."),
    swap("I thought {a1} would be {bad1}; it was anything but that."),
    swap("Nobody who came with us would call {a1} {bad1}."),
    swap("There was never a moment when {a1} seemed {bad1}."),
    swap("Pay no attention to the reviews that call {a1} {bad1}."),
    swap("While {a1} was {bad1} most of the time, {a2} was {good2}, and that alone is what I judge {this} by."),
    swap("{A1} was {bad1} at first sight, but {a2} was {good2}, and {a2} is what I paid for."),
    swap("It started as {badn} and ended up as {goodn}."),
    swap("{A1} was {bad1} in the past; since the summer it has been {good1}."),
    Template("{This} is much better than the {bad} {thing} {before}.",
             "The {bad} {thing} {before} was much better than {this}."),
    Template("I would take {this} over {rival} every time.", "I would take {rival} over {this} every time."),
    Template("Beside {this}, {rival} looks {bad}.", "Beside {rival}, {this} looks {bad}."),
)  # fmt: skip
