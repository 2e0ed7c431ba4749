"""Conform: change a request so that its target accepts it.

Conform is one pure step between a `ChatRequest` and its wire form; its rules are data (`Rules`). It changes the
history, the tools and the options into what the target accepts. Accepted parts stay the same objects, so that a history
that came from the target is sent unchanged, byte for byte. `Conformed.changes` names the changes, for one event per
call.
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
