"""How many decimals each currency has: ISO 4217 table A.1, and three crypto assets.

The ISO part is written out because reading it from the `iso4217` package costs 29 ms and an XML
parser at each start. A test compares it with that package, so it cannot drift unseen. Metals,
`XDR`, `XXX` and the test code have no minor unit, so they are not here. A crypto asset is listed
only if `MAX_MINOR` leaves a useful range: ether counts 18 decimals and would end at 0.001 ETH.
"""

from types import MappingProxyType
from typing import Final

_ISO_4217: Final = {
    0: "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF",
    2: (
        "AED AFN ALL AMD AOA ARS AUD AWG AZN BAM BBD BDT BMD BND BOB BOV BRL BSD BTN BWP BYN BZD "
        "CAD CDF CHE CHF CHW CNY COP COU CRC CUP CVE CZK DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP "
        "GEL GHS GIP GMD GTQ GYD HKD HNL HTG HUF IDR ILS INR IRR JMD KES KGS KHR KPW KYD KZT LAK "
        "LBP LKR LRD LSL MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MXV MYR MZN NAD NGN NIO "
        "NOK NPR NZD PAB PEN PGK PHP PKR PLN QAR RON RSD RUB SAR SBD SCR SDG SEK SGD SHP SLE SOS "
        "SRD SSP STN SVC SYP SZL THB TJS TMT TOP TRY TTD TWD TZS UAH USD USN UYU UZS VED VES WST "
        "XAD XCD XCG YER ZAR ZMW ZWG"
    ),
    3: "BHD IQD JOD KWD LYD OMR TND",
    4: "CLF UYW",
}

CRYPTO_EXPONENTS: Final = MappingProxyType({"USDC": 6, "USDT": 6, "BTC": 8})
ISO_4217_EXPONENTS: Final = MappingProxyType(
    {code: exponent for exponent, codes in _ISO_4217.items() for code in codes.split()}
)
