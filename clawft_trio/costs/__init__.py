"""Prices, budgets, and the ledger of charges."""

from typing import TYPE_CHECKING

from clawft_trio.costs.ledger import Ledger as Ledger
from clawft_trio.costs.meter import CountRequest as CountRequest, Metered as Metered
from clawft_trio.costs.owed import OwedFile as OwedFile
from clawft_trio.costs.periods import Calendar as Calendar
from clawft_trio.costs.prices import (
    Found as Found,
    LongContextPrice as LongContextPrice,
    ModelPrice as ModelPrice,
    Priced as Priced,
    PriceList as PriceList,
    Prices as Prices,
    TokenPrice as TokenPrice,
    load_price_list as load_price_list,
    tier_prices as tier_prices,
)
from clawft_trio.costs.records import (
    Bill as Bill,
    Budget as Budget,
    Claim as Claim,
    Closing as Closing,
    GroupBy as GroupBy,
    LedgerEntry as LedgerEntry,
    Limits as Limits,
    Reservation as Reservation,
    Spending as Spending,
    TurnBudget as TurnBudget,
)
from clawft_trio.costs.schema import MIGRATIONS as MIGRATIONS
from clawft_trio.costs.tracker import (
    Allowance as Allowance,
    Charge as Charge,
    CostTracker as CostTracker,
    Expected as Expected,
    Payer as Payer,
)
from clawft_trio.deprecation import renamed
from clawft_trio.field_docs import document_fields as _document_fields

if not TYPE_CHECKING:
    __getattr__ = renamed(__name__, {"Entry": "LedgerEntry"})

__all__ = [
    "Allowance",
    "Bill",
    "Budget",
    "Calendar",
    "Charge",
    "Claim",
    "Closing",
    "CostTracker",
    "Expected",
    "Found",
    "Ledger",
    "LedgerEntry",
    "Limits",
    "LongContextPrice",
    "Metered",
    "ModelPrice",
    "OwedFile",
    "Payer",
    "PriceList",
    "Priced",
    "Prices",
    "Reservation",
    "Spending",
    "TokenPrice",
    "TurnBudget",
    "load_price_list",
    "renamed",
    "tier_prices",
]

_document_fields(__name__)
