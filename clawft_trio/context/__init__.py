"""What the model is told: bootstrap files, skills and memory, read off the event loop and only when they change."""

from clawft_trio.context.bootstrap import (
    BOOTSTRAP_FILES as BOOTSTRAP_FILES,
)
from clawft_trio.context.bootstrap import (
    Bootstrap as Bootstrap,
)
from clawft_trio.context.bootstrap import (
    BootstrapFile as BootstrapFile,
)
from clawft_trio.context.bootstrap import (
    read_bootstrap as read_bootstrap,
)
from clawft_trio.context.builder import ContextBuilder as ContextBuilder
from clawft_trio.context.memory import Memory as Memory
from clawft_trio.context.memory import Remembered as Remembered
from clawft_trio.context.prompt import Prompt as Prompt
from clawft_trio.context.prompt import PromptPart as PromptPart
from clawft_trio.context.skill_format import Skill as Skill
from clawft_trio.context.skill_use import (
    LOAD_SKILL as LOAD_SKILL,
)
from clawft_trio.context.skill_use import (
    ToolRestriction as ToolRestriction,
)
from clawft_trio.context.skill_use import (
    restriction as restriction,
)
from clawft_trio.context.skills import (
    Shadowed as Shadowed,
)
from clawft_trio.context.skills import (
    SkillReport as SkillReport,
)
from clawft_trio.context.skills import (
    Skills as Skills,
)
from clawft_trio.context.skills import (
    Skipped as Skipped,
)
from clawft_trio.context.tools import memory_tools as memory_tools
from clawft_trio.context.tools import skill_tool as skill_tool
