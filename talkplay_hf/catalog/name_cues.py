"""What a request says around a name: that it is one, that it is not wanted, or only compared with.

The patterns are about the text right before a name, up to the end of its sentence, and right after
it. English ones are the widest; German, Spanish, French and Portuguese ones cover what is common.
"""

import re

_FLAGS = re.IGNORECASE
# up to a name: quotes, white space, and marks that names begin with
_OPENING = r"[^\w,.;:!?…]*$"
_THING = (
    r"(?:songs?|tracks?|tunes?|music|stuff|hits?|numbers?|pieces?|ones?|anything|something|some"
    r"|artists?|bands?|singers?|rappers?)"
)
# words that may stand between "not" and a name
_FILL = (
    r"(?:\s+(?:to|be|is|by|from|of|on|with|about|for|any|anything|something|all|some|more|another"
    r"|other|again|really|necessarily|too|so|much|have|has|had|need|want|wanna|like|love|into|in"
    r"|mood|hear|play|playing|listen(?:ing)?|the|that|this|a|an|big|huge|fans?|songs?|tracks?"
    r"|music|stuff|ones?|interested|keen|care|now|today|please|artists?|bands?|singers?|albums?"
    r"|titles?|title[d]?|called|off|von|vom|mehr|schon|wieder|de|del|d[aeo]|du|des|sea|seja|par|por"
    r"|más|mais|encore|que|plus))*"
)
_UNWANTED = re.compile(
    r"(?:(?<!why )\b(?:not|never|no|nor|neither)|\b(?:is|are|was|were|do|does|did|would|should"
    r"|could|have|has|had|need|wo|must)n[’'`]?t|\bwithout|\bexcept(?:\s+for)?|\bexcluding|\bbesides"
    r"|\b(?:other|rather|different)\s+than|\b(?:apart|aside|away|different)\s+from|\binstead\s+of"
    r"|(?<!get )(?<!getting )\benough|\b(?:tired|sick|bored)\s+(?:of|with)|\bfed\s+up\s+with"
    r"|\bstop|\bskip|\bavoid|\bexclude|\bremove|\bhate|\bdislike|\b(?:can[’'`]?t|cannot)\s+stand"
    r"|\bmov(?:e|ed|ing)\s+on\s+from|\bleave(?:\s+out)?|\bforget|\bnothing|\bless"
    r"|\b(?:any|every|no)\s?(?:one|body|thing|where)?\s+(?:but|except|else\s+than)|\ball\s+but"
    r"|\b(?:swap|replace|trade)(?:\s+out)?|\b(?:switch|change)\s+from"
    r"|\bnicht|\bkeine?[nrs]?|\bohne|\bgenug|\baußer|\bstatt|\bander(?:e[nrs]?|s)\s+als|\bnie"
    r"|\bsin|\bmenos|\bbasta|\ben\s+(?:vez|lugar)|\bdistint[oa]\b|\bexcepto"
    r"|\bpas|\bsans|\bsauf|\bau\s+lieu|\bautre\s+que|\bassez(?:\s+écouté)?"
    r"|\bnão|\bsem|\bchega|\bem\s+vez|\bdeixar|\bdiferente)" + _FILL + _OPENING,
    _FLAGS,
)
_UNWANTED_AFTER = re.compile(
    r"[\"'”’»*)]*,?\s+(?:is\s+enough|no\s+more\b|(?:again\s+)?not?\b\W*$|otra\s+vez\s+no"
    r"|de\s+novo\s+não|de\s+lado)",
    _FLAGS,
)
_COMPARED = re.compile(
    r"(?:\b(?:similar|similarly|akin|close|closer|related|comparable|parecid[oa]s?|similaires?"
    r"|semelhantes?)\s+(?:to|a|à|ao?|com|with)|\bähnlich\s+wie|\breminiscent\s+of|\bresembl\w+"
    r"|\bremind\w*\s+(?:\w+\s+)?of|\b(?:style|vein|spirit|manner|sounds?|vibes?|mood|feel|kind|type"
    r"|estilo|stile?)\s+(?:of|de|von)|\balong\s+the\s+lines\s+of|\b(?:inspired|influenced)\s+by"
    r"|\bgoes?\s+(?:well\s+)?with|\b(?:as|same\s+as)\s+\w+\s+as|\bsame\s+as|\bwie|\bcomo|\bcomme"
    r"|\bfor\s+fans\s+of|\bif\s+you\s+(?:like|love))(?:\s+(?:the|that|a|an|song|track|tune|artist"
    r"|band|by|from|of|" + _THING + r"))*" + _OPENING,
    _FLAGS,
)
_LIKE = re.compile(
    r"(?:([\w’'`]+)\s+)?\blike(?:\s+(?:the|that|songs?|tracks?|artists?|bands?|by|from|of))*"
    + _OPENING,
    _FLAGS,
)
# before these, "like" is what the listener does
_LIKERS = frozenset(
    [
        *("i", "we", "you", "they", "id", "would", "'d", "i'd", "i’d", "we'd", "we’d", "to", "do"),
        *("also", "really", "still", "always", "feel", "feeling", "and", "might", "just", "both"),
    ]
)
_COMPARED_AFTER = re.compile(
    r"[\"'”’»*)]*(?:-(?:like|esque|ish)\b|\s+(?:type|vibes?|style|styled|inspired|sounding)\b"
    r"|['’]s\s+(?:vibes?|style|sound)\b)",
    _FLAGS,
)
# a liked name, and then a wish for others like it
_LIKED = re.compile(r"\b(?:like|love|enjoy|adore|dig|fan\s+of)\b[^,.;!?]{0,20}$", _FLAGS)
_OTHERS = re.compile(
    r"\b(?:who|what|anyone|anything|something|somebody|someone|others?|songs?|artists?)\b"
    r"[^,.;!?]{0,25}\b(?:like|similar\s+to)\s+(?:that|this|them|him|her|it|those)\b"
    r"|\bsimilar\b(?!\s+to\b)",
    _FLAGS,
)
_SLIP = re.compile(
    r"\b(?:i\s+meant?|i\s+mean|make\s+that|scratch\s+that|hang\s+on|hold\s+on|wait|oops|my\s+bad"
    r"|my\s+mistake|correction|rephrase|actually|should\s+have\s+said|misspoke|oh\s+no"
    r"|ich\s+mein(?:e|te)|korrektur|quatsch|genauer\s+gesagt|quería\s+decir|mejor\s+dicho|corrijo"
    r"|me\s+refería|je\s+voulais\s+dire|ou\s+plutôt|eu\s+quis\s+dizer|quer\s+dizer|aliás)\b",
    _FLAGS,
)
_BY = re.compile(
    r"(?:\b(?:by|von|par|por)(?:\s+(?:the|artist|band|singer|rapper|group|duo))*|\b(?:artist|band"
    r"|singer|rapper|duo)s?\s+(?:called|named|such\s+as))" + _OPENING,
    _FLAGS,
)
_FROM = re.compile(r"\b" + _THING + r"\s+(?:from|of)" + _OPENING, _FLAGS)
_CALLED = re.compile(
    r"\b(?:called|titled|named|(?:the|that|this)\s+(?:song|track|tune|single))" + _OPENING, _FLAGS
)
_ALBUM = re.compile(
    r"\b(?:off|albums?|record|ep|lp|soundtrack|álbum|disco|platte)(?:\s+(?:of|the|album|record"
    r"|called|titled|named))*" + _OPENING,
    _FLAGS,
)
_ALBUM_AFTER = re.compile(r"[\"'”’»*)]*\s+(?:album|record|ep|lp)\b", _FLAGS)
_SENTENCE_END = re.compile(r"[.!?…\n]\s")
_WINDOW = 80


def before(text: str, position: int) -> str:
    """The same sentence before a position, at most 80 characters."""
    return _SENTENCE_END.split(text[max(0, position - _WINDOW) : position])[-1]


def is_unwanted(text: str, start: int, end: int) -> bool:
    """Whether a request says that it does not want what stands there."""
    ahead = _UNWANTED.search(before(text, start))
    return ahead is not None or _UNWANTED_AFTER.match(text, end) is not None


def is_compared(text: str, start: int, end: int) -> bool:
    """Whether a request only wants something like what stands there."""
    left = before(text, start)
    if _COMPARED.search(left) or _COMPARED_AFTER.match(text, end):
        return True
    liked = _LIKE.search(left)
    if liked and (liked[1] or "").lower() not in _LIKERS:
        return True
    return _LIKED.search(left) is not None and _OTHERS.search(text, end) is not None


def last_slip(text: str) -> int:
    """Where the last correction of a request begins; -1 where it corrects nothing."""
    return max((match.start() for match in _SLIP.finditer(text)), default=-1)


def says_artist(text: str, start: int) -> bool:
    """Whether an artist is due, as after "by"."""
    return _BY.search(before(text, start)) is not None


def says_from(text: str, start: int) -> bool:
    """Whether an artist is likely, as after "songs from"."""
    return _FROM.search(before(text, start)) is not None


def says_title(text: str, start: int) -> bool:
    """Whether a title is due, as after "called"."""
    return _CALLED.search(before(text, start)) is not None


def says_album(text: str, start: int) -> bool:
    """Whether an album is due, as after "off"."""
    return _ALBUM.search(before(text, start)) is not None


def is_album(text: str, end: int) -> bool:
    """Whether "album" or the like follows."""
    return _ALBUM_AFTER.match(text, end) is not None
