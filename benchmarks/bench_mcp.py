"""Calls per second of one MCP client over stdio: this package against the official SDKs, in one run.

    pip install mcp==2.3.0 && npm install @modelcontextprotocol/sdk@1.32.2
    python benchmarks/bench_mcp.py --npm path/to/folder/with/node_modules

A raw echo server in Python answers 32 bytes. Timeouts and validation are on, as they are by default. The rounds are
interleaved, because a shared machine changes by the minute: compare the ratios, not the numbers.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import trio

from clawft_trio.mcp import Host, McpOptions, open_mcp

ECHO = """
import sys
import msgspec
decode, encode = msgspec.json.decode, msgspec.json.encode
out = sys.stdout.buffer
for line in sys.stdin.buffer:
    m = decode(line)
    if "id" not in m:
        continue
    method, params = m["method"], m.get("params", {})
    if method == "initialize":
        r = {"protocolVersion": "2025-11-25", "capabilities": {}, "serverInfo": {"name": "e", "version": "1"}}
    elif method == "tools/list":
        r = {"tools": [{"name": "echo", "inputSchema": {"type": "object"}}]}
    elif params["name"] == "flood":
        n = b'{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":"x"}}\\n'
        out.write(n * params["arguments"]["count"])
        r = {"content": []}
    else:
        text = params["arguments"].get("text") or "x" * params["arguments"]["size"]
        r = {"content": [{"type": "text", "text": text}]}
    out.write(encode({"jsonrpc": "2.0", "id": m["id"], "result": r}) + b"\\n")
    out.flush()
"""

NODE = """
import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StdioClientTransport } from "@modelcontextprotocol/sdk/client/stdio.js";
const [command, script, calls, flight] = process.argv.slice(2);
const client = new Client({ name: "bench", version: "1" });
await client.connect(new StdioClientTransport({ command, args: [script] }));
await client.listTools();
const one = () => client.callTool({ name: "echo", arguments: { text: "x".repeat(32) } });
for (let i = 0; i < 500; i++) await one();
const cpu = process.cpuUsage(), began = process.hrtime.bigint();
const each = Math.floor(Number(calls) / Number(flight));
await Promise.all(Array.from({ length: Number(flight) }, async () => { for (let i = 0; i < each; i++) await one(); }));
const wall = Number(process.hrtime.bigint() - began) / 1e9, used = process.cpuUsage(cpu);
console.log(JSON.stringify([(each * Number(flight)) / wall, (used.user + used.system) / (each * Number(flight))]));
await client.close();
"""


async def timed(call, calls, flight):
    async def worker(n):
        for _ in range(n):
            await call()

    for _ in range(200):
        await call()
    cpu, began = time.process_time(), time.perf_counter()
    if flight == 1:
        await worker(calls)
    else:
        async with trio.open_nursery() as nursery:
            for _ in range(flight):
                nursery.start_soon(worker, calls // flight)
    done = calls if flight == 1 else calls // flight * flight
    return done / (time.perf_counter() - began), (time.process_time() - cpu) / done * 1e6


async def ours(script, calls, flight):
    async with open_mcp([sys.executable, script]) as client:
        await client.list_tools()
        arguments = {"text": "x" * 32}
        return await timed(lambda: client.call_tool("echo", arguments), calls, flight)


async def sdk(script, calls, flight):
    from mcp import ClientSession, StdioServerParameters
    from mcp.client.stdio import stdio_client

    server = StdioServerParameters(command=sys.executable, args=[script])
    async with stdio_client(server) as (read, write), ClientSession(read, write, read_timeout_seconds=30) as session:
        await session.initialize()
        await session.list_tools()
        arguments = {"text": "x" * 32}
        return await timed(lambda: session.call_tool("echo", arguments), calls, flight)


def node(npm, script, calls, flight):
    program = Path(npm) / "bench_mcp.mjs"
    program.write_text(NODE)
    command = ["node", program.name, sys.executable, script, str(calls), str(flight)]
    return json.loads(subprocess.run(command, cwd=npm, check=True, capture_output=True).stdout.splitlines()[-1])


async def large_replies(script):
    """MiB/s of one reply, by its size in MiB."""
    rates = {}
    async with open_mcp([sys.executable, script]) as client:
        for size in (1, 4, 16, 32):
            best = 0.0
            for _ in range(3):
                began = time.perf_counter()
                result = await client.call_tool("echo", {"size": size * 2**20})
                assert len(result.content[0].text) == size * 2**20
                best = max(best, size / (time.perf_counter() - began))
            rates[size] = round(best)
    return rates


async def flood(script):
    """MiB of memory that 50 000 notifications to a sleeping listener cost, and seconds until a call gets through."""

    async def sleep(*_):
        await trio.sleep_forever()

    async with open_mcp([sys.executable, script], options=McpOptions(host=Host(hear=sleep))) as client:
        await client.list_tools()
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        began = time.perf_counter()
        await client.call_tool("flood", {"count": 50_000})
        return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024, time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--calls", type=int, default=5000)
    parser.add_argument("--npm", help="a folder whose node_modules has @modelcontextprotocol/sdk")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        script = str(Path(folder) / "echo.py")
        Path(script).write_text(ECHO)
        print(f"{'in flight':>9} {'client':>14} {'calls/s':>9} {'CPU µs/call':>12}  ratio to mcp")
        for flight in (1, 100, 1000):
            results: dict[str, list] = {}
            for _ in range(options.rounds):
                results.setdefault("mcp on trio", []).append(trio.run(sdk, script, options.calls, flight))
                results.setdefault("clawft_trio", []).append(
                    trio.run(ours, script, 4 * options.calls if flight > 1 else options.calls, flight)
                )
                if options.npm:
                    results.setdefault("TypeScript", []).append(
                        node(options.npm, script, 4 * options.calls if flight > 1 else options.calls, flight)
                    )
            base = statistics.median(rate for rate, _ in results["mcp on trio"])
            for name, rounds in results.items():
                rate, cpu = (statistics.median(column) for column in zip(*rounds, strict=True))
                print(f"{flight:>9} {name:>14} {rate:>9.0f} {cpu:>12.1f}  {rate / base:.1f}")
        print("MiB/s of one reply, by MiB:", trio.run(large_replies, script))
        grown, seconds = trio.run(flood, script)
        print(f"50 000 notifications to a sleeping listener: +{grown:.1f} MiB, a call gets through in {seconds:.2f} s")


if __name__ == "__main__":
    main()
