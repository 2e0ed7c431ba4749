"""config.json: composed of the subpackages' own policies, read and checked as a whole."""

from clawft_trio.config.load import (
    load_config as load_config,
    parse_config as parse_config,
    with_mcp_files as with_mcp_files,
)
from clawft_trio.config.resilience_sections import (
    AdaptiveLimitConfig as AdaptiveLimitConfig,
    RetryConfig as RetryConfig,
    TimeoutsConfig as TimeoutsConfig,
)
from clawft_trio.config.schema import (
    AgentDefaults as AgentDefaults,
    AgentsConfig as AgentsConfig,
    Config as Config,
    CostBudgets as CostBudgets,
    MemoryConfig as MemoryConfig,
    PipelineConfig as PipelineConfig,
    ProviderConfig as ProviderConfig,
    RoutingConfig as RoutingConfig,
    SkillsConfig as SkillsConfig,
)
from clawft_trio.config.structuring import Secret as Secret
from clawft_trio.config.tool_sections import (
    CommandPolicyConfig as CommandPolicyConfig,
    ExecConfig as ExecConfig,
    McpServerConfig as McpServerConfig,
    ToolsConfig as ToolsConfig,
    UrlPolicyConfig as UrlPolicyConfig,
)
from clawft_trio.field_docs import document_fields as _document_fields

__all__ = [
    "AdaptiveLimitConfig",
    "AgentDefaults",
    "AgentsConfig",
    "CommandPolicyConfig",
    "Config",
    "CostBudgets",
    "ExecConfig",
    "McpServerConfig",
    "MemoryConfig",
    "PipelineConfig",
    "ProviderConfig",
    "RetryConfig",
    "RoutingConfig",
    "Secret",
    "SkillsConfig",
    "TimeoutsConfig",
    "ToolsConfig",
    "UrlPolicyConfig",
    "load_config",
    "parse_config",
    "with_mcp_files",
]

_document_fields(__name__)
