"""Writes payouts.csv beside this file: 1,000 payouts, the same bytes at every run.

    python examples/make_payouts.py

The IBANs are valid by ISO 13616 (length, structure, check digits), but their account numbers are
drawn by chance: they belong to nobody that we know of. Names are common names, paired by chance.
"""

# ruff: noqa: INP001 - run in place, never installed
import csv
import random
import string
from pathlib import Path
from typing import Final

PAYOUTS: Final = 1_000
SEED: Final = 2026

# Share of rows in each currency, its decimals, and the range of amounts in major units.
CURRENCIES: Final = (
    ("EUR", 80, 2, (5, 4_000)),
    ("USD", 6, 2, (5, 4_000)),
    ("GBP", 6, 2, (5, 3_500)),
    ("JPY", 3, 0, (1_000, 400_000)),
    ("KWD", 3, 3, (2, 900)),
    ("USDC", 2, 6, (5, 4_000)),
)

# The registry's structure of each country's account part: n digits, a capital letters,
# c digits or capital letters. France, Italy and Spain have check digits inside and are left out.
COUNTRIES: Final = {
    "EUR": (("DE", "18n"), ("NL", "4a10n"), ("AT", "16n"), ("IE", "4a14n"), ("LU", "3n13c")),
    "USD": (("DE", "18n"), ("AE", "19n"), ("SA", "2n18c")),
    "GBP": (("GB", "4a14n"),),
    "JPY": (("DE", "18n"), ("NL", "4a10n")),
    "KWD": (("KW", "4a22c"),),
    "USDC": (("LT", "16n"), ("DE", "18n")),
}
BANKS: Final = {
    "NL": ("ABNA", "INGB", "RABO", "TRIO"),
    "IE": ("AIBK", "BOFI", "IPBS"),
    "GB": ("BARC", "LOYD", "MIDL", "NWBK"),
    "KW": ("CBKU", "NBOK", "GULB"),
}

FIRST_NAMES: Final = (
    *("Amélie", "Anna", "Aoife", "Ben", "Björn", "Carlos", "Chiara", "Daan", "Dmitri", "Elif"),
    *("Emma", "Fatima", "Felix", "Giulia", "Hana", "Hugo", "Ingrid", "Jakub", "João", "Kenji"),
    *("Laila", "Lars", "Léa", "Lukas", "Maja", "Marek", "Mia", "Mohammed", "Niamh", "Noor"),
    *("Oliver", "Paula", "Pietro", "Sana", "Sofia", "Søren", "Tomás", "Yuki", "Zofia", "Željko"),
)
LAST_NAMES: Final = (
    *("Al-Sabah", "Andersson", "Bakker", "Becker", "Byrne", "Conti", "de Vries", "Dubois"),
    *("Fernández", "Fischer", "García", "Gruber", "Hansen", "Horvat", "Huber", "Jansen"),
    *("Kaya", "Kelly", "Kowalski", "Larsen", "Lefèvre", "Meyer", "Moreau", "Müller"),
    *("Murphy", "Nakamura", "Nowak", "O'Brien", "Pereira", "Rossi", "Schmidt", "Silva"),
    *("Smith", "Tanaka", "Van den Berg", "Wagner", "Weber", "Yildirim", "Ångström", "Öztürk"),
)
COMPANIES: Final = (
    "Bakery",
    "Carpentry",
    "Design",
    "Freight",
    "Gardens",
    "Labs",
    "Optics",
    "Studio",
)
REASONS: Final = (
    "Marketplace sales",
    "Freelance work",
    "Refund of deposit",
    "Royalties",
    "Delivery",
)


def check_digits(country: str, account: str) -> str:
    """The two digits that make the IBAN's number leave 1 modulo 97 (ISO 7064 MOD 97-10)."""
    letters = f"{account}{country}00"
    number = int("".join(str(int(char, 36)) for char in letters))
    return f"{98 - number % 97:02d}"


def draw_account(chance: random.Random, country: str, structure: str) -> str:
    """An account part of this structure; a leading bank code is one of the country's banks."""
    alphabets = {"n": string.digits, "a": string.ascii_uppercase, "c": string.digits}
    account, count = "", ""
    for char in structure:
        if char.isdigit():
            count += char
            continue
        bank = BANKS.get(country) if char == "a" else None
        drawn = (
            chance.choice(bank) if bank else "".join(chance.choices(alphabets[char], k=int(count)))
        )
        account, count = account + drawn, ""
    return account


def draw_amount(chance: random.Random, decimals: int, low: int, high: int) -> str:
    """A decimal in major units with all the currency's decimals; small amounts are commoner."""
    minor = int(low * 10**decimals * (high / low) ** chance.random())
    whole, part = divmod(minor, 10**decimals)
    return f"{whole}.{part:0{decimals}d}" if decimals else str(whole)


def draw_row(chance: random.Random, number: int) -> list[str]:
    """One payout."""
    code, _, decimals, (low, high) = chance.choices(
        CURRENCIES, weights=[share for _, share, _, _ in CURRENCIES]
    )[0]
    country, structure = chance.choice(COUNTRIES[code])
    account = draw_account(chance, country, structure)
    person = f"{chance.choice(FIRST_NAMES)} {chance.choice(LAST_NAMES)}"
    company = chance.random() < 0.15  # noqa: PLR2004 - about every seventh is a firm
    name = f"{person.split(maxsplit=1)[1]} {chance.choice(COMPANIES)} Ltd" if company else person
    return [
        f"INV-2026-{number:04d}",
        draw_amount(chance, decimals, low, high),
        code,
        name,
        f"{country}{check_digits(country, account)}{account}",
        f"{chance.choice(REASONS)} {chance.randint(1, 12):02d}/2026",
        chance.choices(("standard", "batch", "instant"), weights=(7, 2, 1))[0],
    ]


def main() -> None:
    """Write the file."""
    chance = random.Random(SEED)  # noqa: S311 - the same file at every run
    path = Path(__file__).with_name("payouts.csv")
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(
            [
                *("reference", "amount", "currency", "beneficiary_name", "beneficiary_iban"),
                *("description", "priority"),
            ]
        )
        writer.writerows(draw_row(chance, number) for number in range(1, PAYOUTS + 1))


if __name__ == "__main__":
    main()
