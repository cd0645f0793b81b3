"""A run's model card: what its model does, of which rows it learned, how well it does, where it does worse.

`subject` is what a card is about, `metadata` its front matter as the hub defines it, `limits` what the figures warn of,
`written` the whole text by `card.md.jinja`, and whether a text is still as it was written.
"""

from tfft.cards.subject import Subject as Subject
from tfft.cards.written import is_ours as is_ours
from tfft.cards.written import is_somebodys as is_somebodys
from tfft.cards.written import write as write

NAME = "README.md"
