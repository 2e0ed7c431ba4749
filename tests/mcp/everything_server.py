"""The server that the public conformance suite (`@modelcontextprotocol/conformance`) expects, over HTTP.

python everything_server.py [PORT]
"""

from __future__ import annotations

import base64
import json
import sys

import trio

from clawft_trio.mcp import HttpOptions, McpServer, ServeOptions, serve_mcp_http
from clawft_trio.mcp.types import (
    AudioContent,
    EmbeddedResource,
    ImageContent,
    Implementation,
    PromptMessage,
    ResourceContents,
    TextContent,
)
from clawft_trio.tools import ClientRequest, Tool, ToolContext, tool

PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8DwHwAFBQIAX8jx0gAAAABJRU5ErkJggg=="
WAV = "UklGRiYAAABXQVZFZm10IBAAAAABAAEAQB8AAAB9AAACABAAZGF0YQIAAAA="

NAME_FORM = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}
CONFIRM_FORM = {"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"]}


def embedded(uri, text, mime_type="text/plain"):
    return EmbeddedResource(resource=ResourceContents(uri=uri, mime_type=mime_type, text=text))


@tool
async def test_simple_text() -> str:
    """Tests simple text content response."""
    return "This is a simple text response for testing."


@tool
async def test_image_content():
    """Tests image content response."""
    return ImageContent(data=PNG, mime_type="image/png")


@tool
async def test_audio_content():
    """Tests audio content response."""
    return AudioContent(data=WAV, mime_type="audio/wav")


@tool
async def test_embedded_resource():
    """Tests embedded resource content response."""
    return embedded("test://embedded-resource", "This is an embedded resource content.")


@tool
async def test_multiple_content_types():
    """Tests response with multiple content types."""
    return [
        "Multiple content types test:",
        ImageContent(data=PNG, mime_type="image/png"),
        embedded("test://mixed-content-resource", json.dumps({"test": "data", "value": 123}), "application/json"),
    ]


@tool
async def test_tool_with_logging(context: ToolContext) -> str:
    """Tests tool that emits log messages during execution."""
    for line in ("Tool execution started", "Tool processing data", "Tool execution completed"):
        context.client.log("info", line)
        await trio.sleep(0.05)
    return "Tool with logging executed successfully"


@tool
async def test_tool_with_progress(context: ToolContext) -> str:
    """Tests tool that reports progress notifications."""
    for done in (0, 50, 100):
        context.progress(done, 100, f"Completed step {done} of 100")
        await trio.sleep(0.05)
    return "done"


@tool
async def test_error_handling() -> str:
    """Tests error response handling."""
    raise RuntimeError("This tool intentionally returns an error for testing")


@tool
async def test_reconnection(context: ToolContext) -> str:
    """Closes its stream; the result comes when the client is back."""
    context.client.release_stream()
    await trio.sleep(0.1)
    return "Reconnection test completed successfully."


@tool
async def test_sampling(prompt: str, context: ToolContext) -> str:
    """Tests server-initiated sampling."""
    answer = await context.client.sample(prompt, max_tokens=100)
    return f"LLM response: {answer.text}"


@tool
async def test_elicitation(message: str, context: ToolContext) -> str:
    """Tests server-initiated elicitation."""
    form = {
        "type": "object",
        "properties": {"response": {"type": "string", "description": "User's response"}},
        "required": ["response"],
    }
    found = await context.client.elicit(message, form)
    return f"User response: action={found.action}, content={json.dumps(dict(found.content))}"


@tool
async def test_elicitation_sep1034_defaults(context: ToolContext) -> str:
    """Tests elicitation with default values."""
    form = {
        "type": "object",
        "properties": {
            "name": {"type": "string", "description": "User name", "default": "John Doe"},
            "age": {"type": "integer", "description": "User age", "default": 30},
            "score": {"type": "number", "description": "User score", "default": 95.5},
            "status": {"type": "string", "enum": ["active", "inactive", "pending"], "default": "active"},
            "verified": {"type": "boolean", "description": "Verification status", "default": True},
        },
        "required": [],
    }
    found = await context.client.elicit("Please review and update the form fields with defaults", form)
    return f"Elicitation completed: action={found.action}, content={json.dumps(dict(found.content))}"


@tool
async def test_elicitation_sep1330_enums(context: ToolContext) -> str:
    """Tests elicitation with enum schema improvements."""
    options = ["option1", "option2", "option3"]
    titled = [
        {"const": f"value{n}", "title": f"{word} Option"} for n, word in enumerate(("First", "Second", "Third"), 1)
    ]
    form = {
        "type": "object",
        "properties": {
            "untitledSingle": {"type": "string", "enum": options},
            "titledSingle": {"type": "string", "oneOf": titled},
            "legacyEnum": {
                "type": "string",
                "enum": ["opt1", "opt2", "opt3"],
                "enumNames": ["Option One", "Option Two", "Option Three"],
            },
            "untitledMulti": {
                "type": "array",
                "minItems": 1,
                "maxItems": 3,
                "items": {"type": "string", "enum": options},
            },
            "titledMulti": {"type": "array", "minItems": 1, "maxItems": 3, "items": {"anyOf": titled}},
        },
        "required": [],
    }
    found = await context.client.elicit("Please select options from the enum fields", form)
    return f"Elicitation completed: action={found.action}, content={json.dumps(dict(found.content))}"


async def _echo(arguments, context):
    return f"JSON Schema 2020-12 tool called with: {json.dumps(dict(arguments))}"


json_schema_tool = Tool(
    "json_schema_2020_12_tool",
    function=_echo,
    description="Tool with JSON Schema 2020-12 features",
    parameters={
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "$defs": {
            "address": {
                "$anchor": "addressDef",
                "type": "object",
                "properties": {"street": {"type": "string"}, "city": {"type": "string"}},
            }
        },
        "properties": {
            "name": {"type": "string"},
            "address": {"$ref": "#/$defs/address"},
            "contactMethod": {"type": "string", "enum": ["phone", "email"]},
            "phone": {"type": "string"},
            "email": {"type": "string"},
        },
        "allOf": [{"anyOf": [{"required": ["phone"]}, {"required": ["email"]}]}],
        "if": {"properties": {"contactMethod": {"const": "phone"}}, "required": ["contactMethod"]},
        "then": {"required": ["phone"]},
        "else": {"required": ["email"]},
        "additionalProperties": False,
    },
)

header_tool = Tool(
    "test_custom_headers",
    function=_echo,
    description="Repeats an argument in a header",
    parameters={
        "type": "object",
        "properties": {"region": {"type": "string", "x-mcp-header": "Region"}},
        "required": ["region"],
    },
)


@tool
async def test_missing_capability(context: ToolContext) -> str:
    """Needs sampling."""
    await context.client.sample("hello", max_tokens=1)
    return "Success"


@tool
async def test_streaming_elicitation(context: ToolContext) -> str:
    """Sends a message before its question."""
    context.progress(50, 100)
    await context.client.elicit("Go on?", CONFIRM_FORM)
    return "Streaming complete"


@tool
async def test_logging_tool(context: ToolContext) -> str:
    """Logs."""
    context.client.log("info", "Diagnostic trace logging activated")
    return "Logging evaluated"


@tool
async def test_input_required_result_elicitation(context: ToolContext) -> str:
    """Asks for a name."""
    found = await context.client.elicit("What is your name?", NAME_FORM, key="user_name")
    return f"Hello, {found.content['name']}!"


@tool
async def test_input_required_result_sampling(context: ToolContext) -> str:
    """Asks the client's model."""
    found = await context.client.sample("What is the capital of France?", max_tokens=100, key="sample_request")
    return f"Sampling result: {found.text}"


@tool
async def test_input_required_result_list_roots(context: ToolContext) -> str:
    """Asks for the roots."""
    return f"Found {len(await context.client.list_roots(key='roots_request'))} root(s)"


@tool
async def test_input_required_result_request_state(context: ToolContext) -> str:
    """Asks for a confirmation, with state."""
    await context.client.elicit("Please confirm", CONFIRM_FORM, key="confirm")
    return "state-ok: requestState validated"


@tool
async def test_input_required_result_multiple_inputs(context: ToolContext) -> str:
    """Asks three things at once."""
    sampling = {
        "messages": [{"role": "user", "content": {"type": "text", "text": "Generate a greeting"}}],
        "maxTokens": 50,
    }
    found = await context.client.ask_all(
        {
            "user_name": ClientRequest(
                "elicitation/create", {"message": "What is your name?", "requestedSchema": NAME_FORM}
            ),
            "greeting": ClientRequest("sampling/createMessage", sampling),
            "client_roots": ClientRequest("roots/list"),
        }
    )
    return f"Name: {found['user_name']['content']['name']}; Roots: {len(found['client_roots']['roots'])}"


@tool
async def test_input_required_result_multi_round(context: ToolContext) -> str:
    """Asks twice."""
    color = {"type": "object", "properties": {"color": {"type": "string"}}, "required": ["color"]}
    first = await context.client.elicit("Step 1: What is your name?", NAME_FORM, key="step1")
    second = await context.client.elicit("Step 2: What is your favorite color?", color, key="step2")
    return f"Multi-round complete for {first.content['name']} who likes {second.content['color']}"


@tool
async def test_input_required_result_tampered_state(context: ToolContext) -> str:
    """Asks for a confirmation, with state that must not be changed."""
    await context.client.elicit("Please confirm", CONFIRM_FORM, key="confirm")
    return "integrity-ok: state verified"


@tool
async def test_input_required_result_capabilities(context: ToolContext) -> str:
    """Asks what the client can answer."""
    value = {"type": "object", "properties": {"value": {"type": "string"}}, "required": ["value"]}
    sampling = {"messages": [{"role": "user", "content": {"type": "text", "text": "Sample request"}}], "maxTokens": 50}
    requests = {}
    if context.client.supports("elicitation"):
        requests["elicit_input"] = ClientRequest("elicitation/create", {"message": "Input", "requestedSchema": value})
    if context.client.supports("sampling"):
        requests["sample_input"] = ClientRequest("sampling/createMessage", sampling)
    found = await context.client.ask_all(requests) if requests else {}
    return f"capabilities-ok: received {','.join(found)}"


def everything() -> McpServer:
    async def tool_change() -> str:
        """Changes the list of tools."""
        server.tools.add(tool(name="test_dynamic", description="Comes and goes")(_nothing))
        server.tools.remove("test_dynamic")
        return "Mutation triggered"

    async def prompt_change() -> str:
        """Changes the list of prompts."""
        server.prompt(name="test_dynamic")(_nothing)
        server.remove_prompt("test_dynamic")
        return "Mutation triggered"

    async def _nothing() -> str:
        return ""

    tools = [value for value in globals().values() if isinstance(value, Tool)]
    tools.append(tool(name="test_trigger_tool_change")(tool_change))
    tools.append(tool(name="test_trigger_prompt_change")(prompt_change))
    server = McpServer(tools)
    _add_resources(server)
    _add_prompts(server)
    return server


def _add_resources(server: McpServer) -> None:
    @server.resource("test://static-text", title="Static Text Resource", mime_type="text/plain")
    async def static_text():
        """A static text resource for testing."""
        return "This is the content of the static text resource."

    @server.resource("test://static-binary", title="Static Binary Resource", mime_type="image/png")
    async def static_binary():
        """A static binary resource for testing."""
        return base64.b64decode(PNG)

    @server.resource("test://template/{id}/data", title="Resource Template", mime_type="application/json")
    async def template(id: str):  # noqa: A002 - the template's own name
        """A resource template with parameter substitution."""
        return {"id": id, "templateTest": True, "data": f"Data for ID: {id}"}

    @server.resource("test://watched-resource", title="Watched Resource", mime_type="text/plain")
    async def watched():
        """A resource that changes."""
        return "Watched resource content"


def _add_prompts(server: McpServer) -> None:
    @server.prompt
    async def test_simple_prompt() -> str:
        """A simple prompt without arguments."""
        return "This is a simple prompt for testing."

    @server.prompt
    async def test_prompt_with_arguments(arg1: str, arg2: str) -> str:
        """A prompt with required arguments.

        Args:
          arg1: First test argument.
          arg2: Second test argument.
        """
        return f"Prompt with arguments: arg1='{arg1}', arg2='{arg2}'"

    @server.prompt
    async def test_prompt_with_embedded_resource(resourceUri: str):
        """A prompt that includes an embedded resource."""
        resource = embedded(resourceUri, "Embedded resource content for testing.")
        return [resource, "Please process the embedded resource above."]

    @server.prompt
    async def test_prompt_with_image():
        """A prompt that includes image content."""
        image = ImageContent(data=PNG, mime_type="image/png")
        text = TextContent(text="Please analyze the image above.")
        return [PromptMessage(role="user", content=image), PromptMessage(role="user", content=text)]

    @server.prompt
    async def test_input_required_result_prompt(context: ToolContext) -> str:
        """Asks for its context."""
        form = {"type": "object", "properties": {"context": {"type": "string"}}, "required": ["context"]}
        found = await context.client.elicit("What context should the prompt use?", form, key="user_context")
        return f"Prompt with context: {found.content['context']}"


async def main(port: int) -> None:
    options = ServeOptions(server=Implementation(name="everything", version="1.0.0"))
    async with trio.open_nursery() as nursery:

        async def serve(task_status):
            await serve_mcp_http(
                everything(), f"127.0.0.1:{port}", options=options, http=HttpOptions(), task_status=task_status
            )

        address = await nursery.start(serve)
        print(address, flush=True)


if __name__ == "__main__":
    trio.run(main, int(sys.argv[1]) if len(sys.argv) > 1 else 0)
