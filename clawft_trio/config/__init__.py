"""config.json: the rooms' own policies, composed, read and checked as a whole."""

from clawft_trio.config.load import load_config as load_config, parse_config as parse_config
from clawft_trio.config.schema import (
    AgentDefaults as AgentDefaults,
    AgentsConfig as AgentsConfig,
    Config as Config,
    CostBudgets as CostBudgets,
    McpServerConfig as McpServerConfig,
    MemoryConfig as MemoryConfig,
    PipelineConfig as PipelineConfig,
    ProviderConfig as ProviderConfig,
    RetryConfig as RetryConfig,
    RoutingConfig as RoutingConfig,
    SkillsConfig as SkillsConfig,
    TimeoutsConfig as TimeoutsConfig,
    ToolsConfig as ToolsConfig,
)
from clawft_trio.config.structuring import Secret as Secret

__all__ = [
    "AgentDefaults",
    "AgentsConfig",
    "Config",
    "CostBudgets",
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
    "load_config",
    "parse_config",
]
