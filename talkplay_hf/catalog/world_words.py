"""The words of the demo world. Every name is invented; any likeness to a real artist is chance."""

GENRES: dict[str, tuple[tuple[str, ...], int]] = {
    # genre: (instruments, usual tempo in beats per minute)
    "jazz": (("saxophone", "piano"), 112),
    "folk": (("acoustic guitar", "banjo"), 100),
    "techno": (("synthesizer", "drum machine"), 132),
    "metal": (("electric guitar", "drums"), 148),
    "hip hop": (("drum machine", "bass"), 92),
    "ambient": (("synthesizer", "piano"), 72),
    "soul": (("organ", "bass"), 96),
    "reggae": (("bass", "organ"), 80),
    "classical": (("violin", "piano"), 88),
    "rock": (("electric guitar", "drums"), 124),
}

MOODS: dict[str, tuple[int, bool, tuple[str, ...]]] = {
    # mood: (tempo shift, major key, themes)
    "happy": (10, True, ("summer", "dancing", "friendship")),
    "sad": (-14, False, ("heartbreak", "rain", "home")),
    "calm": (-18, True, ("the sea", "night", "home")),
    "energetic": (20, True, ("dancing", "the road", "summer")),
    "dark": (-2, False, ("night", "rain", "the city")),
    "romantic": (-6, True, ("love", "night", "the sea")),
}

THEMES: dict[str, tuple[str, ...]] = {
    "summer": ("sunlight", "july", "barefoot", "lemonade", "meadow", "golden", "beach"),
    "dancing": ("rhythm", "floor", "sway", "spinning", "tonight", "feet", "shimmer"),
    "friendship": ("together", "laughing", "campfire", "brother", "sister", "stories", "hand"),
    "heartbreak": ("goodbye", "broken", "letters", "alone", "teardrop", "memory", "empty"),
    "rain": ("umbrella", "puddles", "thunder", "window", "grey", "clouds", "drizzle"),
    "home": ("kitchen", "porch", "mother", "garden", "hallway", "lantern", "doorstep"),
    "the sea": ("harbour", "tide", "sailor", "salt", "lighthouse", "anchor", "waves"),
    "night": ("midnight", "moonlight", "stars", "owl", "shadow", "candle", "silence"),
    "the road": ("highway", "engine", "miles", "signpost", "dust", "suitcase", "horizon"),
    "the city": ("neon", "subway", "skyline", "traffic", "concrete", "corner", "sirens"),
    "love": ("darling", "kiss", "forever", "roses", "whisper", "heartbeat", "promise"),
}

LYRIC_LINES = (
    "{a} and {b} in my mind",
    "oh the {a} takes me back to the {b}",
    "i was waiting for the {a}",
    "no {a} without {b}",
    "tell me of {a}, tell me of {b}",
    "{a}, {a}, {b} till the morning",
    "we left the {a} behind the {b}",
    "carry the {a} with you",
)

TITLE_HEADS = (
    "Paper", "Silver", "Velvet", "Crooked", "Hollow", "Amber", "Distant", "Electric", "Quiet",
    "Burning", "Frozen", "Wandering", "Copper", "Painted", "Borrowed", "Restless", "Scarlet",
    "Wooden", "Glass", "Faded", "Second", "Lonely", "Secret", "Midnight", "Northern",
)  # fmt: skip
TITLE_TAILS = (
    "Lanterns", "Orchard", "Signal", "Compass", "Parade", "Mirrors", "Ferry", "Sparrow", "Engine",
    "Carousel", "Weather", "Letters", "Staircase", "Harvest", "Puzzle", "Ribbon", "Telescope",
    "Tunnel", "Feather", "Market", "Balcony", "Voltage", "Pilgrim", "Cathedral", "Teapot",
)  # fmt: skip
TITLE_JOINS = ("{head} {tail}", "The {head} {tail}", "{tail} of {other}", "My {head} {tail}")

ARTIST_FIRST = (
    "Ondra", "Mirell", "Tavio", "Quilla", "Bexley", "Saskar", "Juno", "Orsolo", "Pellie", "Vesna",
    "Zephra", "Kasimo", "Lunetta", "Dorvan", "Ysolde", "Nimra", "Corvin", "Eloway", "Fenwick",
    "Halima",
)  # fmt: skip
ARTIST_LAST = (
    "Vantongle", "Okorosh", "Brightwater", "Skarholt", "Pemberlow", "Tzu-Lorin", "Marrowby",
    "Delacrumb", "Hjortlund", "Quastel", "Wetherspun", "Nakadoro", "Fairgloam", "Oblinsky",
    "Tremblehart", "Zambrosi", "Littlewick", "Argentov", "Ravensong", "Umbertide",
)  # fmt: skip
BAND_NOUNS = (
    "Otters", "Cartographers", "Lampposts", "Magpies", "Umbrellas", "Foxgloves", "Pendulums",
    "Understudies", "Tugboats", "Marmots", "Clockmakers", "Satellites",
)  # fmt: skip
