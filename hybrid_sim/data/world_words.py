"""The words of the synthetic world. Titles, genres and sentences are fictional."""

from __future__ import annotations

CHOICES = 3
"""Alternatives per trait, pole and slot."""

Pole = dict[str, tuple[str, str, str]]

TRAITS: tuple[tuple[Pole, Pole], ...] = (
    (
        {
            "tone": ("gentle", "unhurried", "tender"),
            "who": ("a village baker", "two old neighbours", "a kind schoolteacher"),
            "deed": ("tends a garden", "prepares a summer feast", "mends an old boat"),
            "place": ("beside a quiet lake", "in a sleepy orchard town", "through one mild spring"),
            "close": ("Nothing is urgent.", "Patience is rewarded.", "Every evening ends with tea."),
        },
        {
            "tone": ("tense", "menacing", "nerve-racking"),
            "who": ("a hunted witness", "a kidnapped judge", "a detective without sleep"),
            "deed": ("follows a murderer", "uncovers a deadly plot", "waits for the next threat"),
            "place": ("behind locked doors", "in a city under curfew", "on the last night train"),
            "close": ("Nobody can be trusted.", "Time is running out.", "The killer is close."),
        },
    ),
    (
        {
            "tone": ("historical", "antique", "old-world"),
            "who": ("a court painter", "a medieval mason", "a queen's messenger"),
            "deed": ("serves a failing dynasty", "restores a cathedral", "carries a royal letter"),
            "place": ("in the age of sail", "at the emperor's court", "among feuding duchies"),
            "close": ("An old era ends.", "The chronicles remember it.", "A kingdom is at stake."),
        },
        {
            "tone": ("futuristic", "high-tech", "interstellar"),
            "who": ("a starship engineer", "a thinking robot", "a colonist on Mars"),
            "deed": ("rewires a failing reactor", "decodes an alien signal", "awakens from cryogenic sleep"),
            "place": ("aboard an orbital station", "in a neon megacity", "beyond the known galaxies"),
            "close": ("The machines are learning.", "Tomorrow has arrived.", "The stars are answering."),
        },
    ),
    (
        {
            "tone": ("grave", "sorrowful", "sombre"),
            "who": ("a grieving mother", "a disgraced surgeon", "a dying miner"),
            "deed": ("mourns a lost child", "confronts an unforgivable guilt", "faces a long illness"),
            "place": ("in the year of the famine", "after the funeral", "in a ruined parish"),
            "close": ("Loss has no remedy.", "Some wounds never heal.", "Grief stays."),
        },
        {
            "tone": ("hilarious", "witty", "goofy"),
            "who": ("a clumsy waiter", "an incompetent burglar", "a prank-loving aunt"),
            "deed": ("ruins a wedding cake", "impersonates a bishop", "loses a borrowed ostrich"),
            "place": ("at a chaotic hotel", "during a disastrous picnic", "in a circus of misunderstandings"),
            "close": ("Laughter is guaranteed.", "The jokes never stop.", "Absurdity wins."),
        },
    ),
    (
        {
            "tone": ("solitary", "austere", "detached"),
            "who": ("a lighthouse keeper", "a lone cartographer", "a hermit monk"),
            "deed": ("walks away from everyone", "keeps a silent vigil", "lives without company"),
            "place": ("on an empty plateau", "in a snowbound cabin", "far from any road"),
            "close": ("No one comes.", "Silence is the answer.", "Solitude has its price."),
        },
        {
            "tone": ("romantic", "passionate", "lovestruck"),
            "who": ("a shy florist", "two rival dancers", "a bride with doubts"),
            "deed": ("falls in love with a stranger", "writes secret love letters", "rekindles a first kiss"),
            "place": ("under the lanterns of Verona", "on a honeymoon island", "in a rooftop ballroom"),
            "close": ("Love finds a way.", "Two hearts meet.", "A kiss changes everything."),
        },
    ),
    (
        {
            "tone": ("talkative", "contemplative", "philosophical"),
            "who": ("a retired professor", "an essayist", "three debating siblings"),
            "deed": ("argues about free will", "rereads a diary aloud", "discusses a disputed will"),
            "place": ("around one kitchen table", "in a lecture hall", "over an endless dinner"),
            "close": ("Words are all there is.", "The question stays open.", "Conversation is the plot."),
        },
        {
            "tone": ("explosive", "breakneck", "hard-hitting"),
            "who": ("a stunt driver", "an elite commando", "a runaway boxer"),
            "deed": ("storms a fortress", "outruns a convoy", "fights a brutal gang"),
            "place": ("across burning rooftops", "in a roaring speedway", "through a minefield"),
            "close": ("The chase never stops.", "Everything blows up.", "Fists decide."),
        },
    ),
    (
        {
            "tone": ("realistic", "documentary-like", "matter-of-fact"),
            "who": ("a factory inspector", "a night-shift nurse", "a tax clerk"),
            "deed": ("records a labour dispute", "follows a local election", "audits a bankrupt mill"),
            "place": ("in an ordinary suburb", "at the unemployment office", "along a motorway"),
            "close": ("It really happened.", "The facts speak.", "Work goes on."),
        },
        {
            "tone": ("magical", "enchanted", "mythic"),
            "who": ("an apprentice wizard", "a talking fox", "a banished fairy"),
            "deed": ("breaks a curse", "bargains with a dragon", "searches for a spellbook"),
            "place": ("in a forest of whispers", "beneath a floating castle", "at the gate of dreams"),
            "close": ("The spell is broken.", "Magic has returned.", "Dragons remember."),
        },
    ),
)
"""Per trait the words of its low and of its high pole: gentle to tense, past to future, grave to funny,
solitary to romantic, talk to action, real to magical."""

GENRES: dict[str, tuple[float, ...]] = {
    "Action": (0.4, 0.0, 0.0, 0.0, 1.2, 0.0),
    "Comedy": (-0.3, 0.0, 1.2, 0.0, 0.0, 0.0),
    "Documentary": (0.0, -0.2, -0.2, -0.2, -0.4, -1.0),
    "Drama": (0.0, 0.0, -1.0, 0.0, -0.6, 0.0),
    "Family": (-1.0, 0.0, 0.4, 0.0, 0.0, 0.4),
    "Fantasy": (0.0, -0.3, 0.0, 0.0, 0.0, 1.2),
    "History": (0.0, -1.2, 0.0, 0.0, 0.0, 0.0),
    "Romance": (0.0, 0.0, 0.0, 1.2, 0.0, 0.0),
    "Science Fiction": (0.0, 1.2, 0.0, 0.0, 0.0, 0.0),
    "Thriller": (1.2, 0.0, 0.0, -0.2, 0.2, 0.0),
}
"""How strongly each trait speaks for a genre."""

OCCUPATIONS = ("student", "teacher", "engineer", "nurse", "artist", "clerk", "farmer", "retired")

TITLE_FIRST = (
    "Amber", "Brass", "Crimson", "Distant", "Eleventh", "Fallen", "Glass", "Hollow", "Iron", "Jade",
    "Kindred", "Last", "Marble", "Northern", "Opal", "Paper", "Quiet", "Restless", "Silver", "Thirteenth",
    "Unwritten", "Velvet", "Winter", "Yellow",
)  # fmt: skip
TITLE_SECOND = (
    "Anchor", "Bridge", "Compass", "Doorway", "Echo", "Feather", "Garden", "Harbour", "Inheritance",
    "Journey", "Key", "Ladder", "Mirror", "Net", "Orchard", "Pilgrim", "Question", "River", "Station",
    "Tower", "Umbrella", "Voyage", "Window", "Zephyr",
)  # fmt: skip
