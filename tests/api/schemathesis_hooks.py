"""What schemathesis can't know: how to make an IBAN. Loaded by its command line."""

import schemathesis
from hypothesis import strategies as st

schemathesis.openapi.format(
    "iban",
    st.sampled_from(
        ["DE89370400440532013000", "GB33BUKB20201555555555", "fr14 2004 1010 0505 0001 3M02 606"]
    ),
)
