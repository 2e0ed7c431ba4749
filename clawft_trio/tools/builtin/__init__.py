"""Built-in tools: files, search, web pages, programs."""

from clawft_trio.tools.builtin.command import CommandPolicy as CommandPolicy
from clawft_trio.tools.builtin.fetch import FetchPolicy as FetchPolicy
from clawft_trio.tools.builtin.files import FilePolicy as FilePolicy
from clawft_trio.tools.builtin.register import (
    BuiltinPolicy as BuiltinPolicy,
    register_builtins as register_builtins,
)
from clawft_trio.tools.child_process import ChildPolicy as ChildPolicy
