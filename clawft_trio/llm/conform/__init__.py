"""Conform: make a request acceptable to the target that gets it.

One pure step between a `ChatRequest` and its wire form, by rules that are data (`Rules`). The history, the tools and
the options become what the target accepts; what is accepted stays the same object, so that a history of the target's
own is sent byte for byte as it was. `Conformed.changes` names what was changed, for one event per call.
"""

from clawft_trio.llm.conform.conform import (
    Conformed as Conformed,
    Conformer as Conformer,
    conform as conform,
)
from clawft_trio.llm.conform.pairing import (
    NO_RESULT as NO_RESULT,
    mend as mend,
)
from clawft_trio.llm.conform.rules import (
    Rules as Rules,
    SchemaRules as SchemaRules,
    VendorRules as VendorRules,
    overlay as overlay,
)
