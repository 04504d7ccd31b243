"""cc_net's normaliser (Wenzek et al. 2020), a step a line and a character at a time: what the kernel must equal."""

import unicodedata

PLAIN = str.maketrans(
    "，。、„”“«»１」「《》´∶：？！（）；．～’━〈〉【】％►",
    ',.,""""""""""\'::?!();\x00~\'-<>[]%-',
)


def slow_normal(text):
    line = text.strip().lower()
    line = "".join(char for char in unicodedata.normalize("NFD", line) if unicodedata.category(char) != "Mn")
    line = "".join("0" if unicodedata.category(char) == "Nd" else char for char in line)
    line = "".join(char for char in line if char != "\x00").translate(PLAIN)
    line = line.replace("\x00", ". ").replace("—", " - ").replace("–", "-").replace("…", "...")
    return "".join(char for char in line if not (ord(char) < 32 or 127 <= ord(char) < 160))
