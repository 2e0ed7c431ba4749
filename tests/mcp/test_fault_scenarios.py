"""Faults of a server over stdio: each costs at most the call that met it, at once, with an error of the right kind."""

from __future__ import annotations

import os
import sys

import pytest
import trio

from clawft_trio.errors import McpError, PeerError, PeerGone, ProtocolViolation
from clawft_trio.mcp import McpOptions, StdioServer, open_mcp
from clawft_trio.mcp.types import CallToolResult

pytestmark = pytest.mark.skipif(os.name != "posix", reason="processes")

# Written without this package, as a server of another hand would be.
SERVER = """
import json, os, subprocess, sys, time

HELLO = {"protocolVersion": "2025-11-25", "capabilities": {"tools": {}}, "serverInfo": {"name": "s", "version": "1"}}


def out(line, end="\\n"):
    sys.stdout.buffer.write(line if isinstance(line, bytes) else (line + end).encode())
    sys.stdout.buffer.flush()


def send(**message):
    out(json.dumps({"jsonrpc": "2.0", **message}))


def res(m, result):
    send(id=m["id"], result=result)


for line in sys.stdin:
    m = json.loads(line)
    if m.get("method") == "initialize":
        res(m, HELLO)
    elif m.get("method") == "tools/call":
        if m["params"]["name"] == "fault":
            exec(sys.argv[1])
        else:
            res(m, {"content": [{"type": "text", "text": "fine"}]})
"""


#: what the server does with a call, and what the call comes to
FAULTS = {
    "error null obj": ("out(json.dumps({'jsonrpc':'2.0','id':m['id'],'error':{}}))", PeerError),
    "error string": ("out(json.dumps({'jsonrpc':'2.0','id':m['id'],'error':'boom'}))", PeerError),
    "error list": ("out(json.dumps({'jsonrpc':'2.0','id':m['id'],'error':[1,2]}))", PeerError),
    "error number": ("out(json.dumps({'jsonrpc':'2.0','id':m['id'],'error':5}))", PeerError),
    "error false": ("out(json.dumps({'jsonrpc':'2.0','id':m['id'],'error':False}))", PeerError),
    "error code float": (
        "out(json.dumps({'jsonrpc':'2.0','id':m['id'],'error':{'code':-32601.0,'message':'nm'}}))",
        PeerError,
    ),
    "error code null": (
        "out(json.dumps({'jsonrpc':'2.0','id':m['id'],'error':{'code':None,'message':'nm'}}))",
        PeerError,
    ),
    "error code bool": (
        "out(json.dumps({'jsonrpc':'2.0','id':m['id'],'error':{'code':True,'message':'nm'}}))",
        PeerError,
    ),
    "error code huge": (
        'out(\'{"jsonrpc":"2.0","id":%d,"error":{"code":99999999999999999999999999,"message":"nm"}}\'%m[\'id\'])',
        PeerError,
    ),
    "error msg null": ("out(json.dumps({'jsonrpc':'2.0','id':m['id'],'error':{'code':-1,'message':None}}))", PeerError),
    "error msg dict": (
        "out(json.dumps({'jsonrpc':'2.0','id':m['id'],'error':{'code':-1,'message':{'a':'quota'}}}))",
        PeerError,
    ),
    "error data deep": (
        'out(\'{"jsonrpc":"2.0","id":%d,"error":{"code":-1,"message":"nm","data":%s}}\'%(m[\'id\'],\'[\'*100000+\']\'*100000))',
        ProtocolViolation,
    ),
    "both": (
        "out(json.dumps({'jsonrpc':'2.0','id':m['id'],'result':{'content':[]},'error':{'code':-1,'message':'E'}}))",
        PeerError,
    ),
    "neither": ("out(json.dumps({'jsonrpc':'2.0','id':m['id']}))", ProtocolViolation),
    "result null": ("out(json.dumps({'jsonrpc':'2.0','id':m['id'],'result':None}))", ProtocolViolation),
    "result string": ("out(json.dumps({'jsonrpc':'2.0','id':m['id'],'result':'ok'}))", ProtocolViolation),
    "result list": ("out(json.dumps({'jsonrpc':'2.0','id':m['id'],'result':[]}))", ProtocolViolation),
    "id string": ("out(json.dumps({'jsonrpc':'2.0','id':str(m['id']),'result':{'content':[]}}))", CallToolResult),
    "id float": ('out(\'{"jsonrpc":"2.0","id":%d.0,"result":{"content":[]}}\'%m[\'id\'])', CallToolResult),
    "no jsonrpc": ("out(json.dumps({'id':m['id'],'result':{'content':[]}}))", CallToolResult),
    "jsonrpc 1.0": ("out(json.dumps({'jsonrpc':'1.0','id':m['id'],'result':{'content':[]}}))", CallToolResult),
    "dup id keys": ('out(\'{"id":1,"id":%d,"result":{"content":[]}}\'%m[\'id\'])', CallToolResult),
    "bom": (
        "out(b'\\xef\\xbb\\xbf'+json.dumps({'jsonrpc':'2.0','id':m['id'],'result':{'content':[]}}).encode()+b'\\n')",
        CallToolResult,
    ),
    "crlf": ("out(json.dumps({'jsonrpc':'2.0','id':m['id'],'result':{'content':[]}})+'\\r')", CallToolResult),
    "cr only": (
        "out(json.dumps({'jsonrpc':'2.0','id':m['id'],'result':{'content':[]}}).encode()+b'\\r\\r\\n')",
        CallToolResult,
    ),
    "batch": ("out(json.dumps([{'jsonrpc':'2.0','id':m['id'],'result':{'content':[]}}]))", CallToolResult),
    "empty batch then": ("out('[]'); res(m,{'content':[]})", CallToolResult),
    "utf16": (
        "out((json.dumps({'jsonrpc':'2.0','id':m['id'],'result':{'content':[]}})+'\\n').encode('utf-16')); res(m,{'content':[]})",
        ProtocolViolation,
    ),
    "bad utf8 line then ok": ("out(b'\\xff\\xfe{\\n'); res(m,{'content':[]})", CallToolResult),
    "bad utf8 inside": (
        'out(b\'{"jsonrpc":"2.0","id":%d,"result":{"content":[{"type":"text","text":"\\xff"}]}}\\n\'%m[\'id\'])',
        ProtocolViolation,
    ),
    "NUL": ("out(b'\\x00\\n'); res(m,{'content':[]})", CallToolResult),
    "nan": (
        'out(\'{"jsonrpc":"2.0","id":%d,"result":{"content":[],"structuredContent":{"a":NaN}}}\'%m[\'id\'])',
        ProtocolViolation,
    ),
    "bigint": (
        'out(\'{"jsonrpc":"2.0","id":%d,"result":{"content":[],"structuredContent":{"a":%s}}}\'%(m[\'id\'],\'9\'*5000))',
        ProtocolViolation,
    ),
    "surrogate": (
        'out(\'{"jsonrpc":"2.0","id":%d,"result":{"content":[{"type":"text","text":"\\\\ud800"}]}}\'%m[\'id\'])',
        ProtocolViolation,
    ),
    "deep": (
        'out(\'{"jsonrpc":"2.0","id":%d,"result":{"content":[],"structuredContent":%s}}\'%(m[\'id\'],\'[\'*200000+\']\'*200000))',
        ProtocolViolation,
    ),
    "deep id last": (
        'out(\'{"jsonrpc":"2.0","result":{"content":[],"structuredContent":%s},"id":%d}\'%(\'[\'*200000+\']\'*200000,m[\'id\']))',
        ProtocolViolation,
    ),
    "exit no newline": (
        "out(json.dumps({'jsonrpc':'2.0','id':m['id'],'result':{'content':[]}}),end=''); sys.exit(0)",
        CallToolResult,
    ),
    "exit 3": ("sys.stderr.write('last words\\n'); sys.exit(3)", PeerGone),
    "abort": ("os.kill(os.getpid(),9)", PeerGone),
    "truncated exit": ('out(\'{"jsonrpc":"2.0","id":%d,"resu\'%m[\'id\'],end=\'\'); sys.exit(0)', ProtocolViolation),
    "notif storm": (
        "[out(json.dumps({'jsonrpc':'2.0','method':'notifications/message','params':{'level':'info','data':i}})) for i in range(20000)]; res(m,{'content':[]})",
        CallToolResult,
    ),
    "list_changed storm": (
        "[out(json.dumps({'jsonrpc':'2.0','method':'notifications/tools/list_changed'})) for i in range(20000)]; res(m,{'content':[]})",
        CallToolResult,
    ),
    "progress bad": (
        "[out(json.dumps({'jsonrpc':'2.0','method':'notifications/progress','params':p})) for p in (None,[],{},{'progressToken':None},{'progressToken':m['id'],'progress':'x'},{'progressToken':m['id'],'progress':None},{'progressToken':{}})]; res(m,{'content':[]})",
        CallToolResult,
    ),
    "cancelled bad": (
        "[out(json.dumps({'jsonrpc':'2.0','method':'notifications/cancelled','params':p})) for p in (None,[],{},{'requestId':None},{'requestId':{}},{'requestId':m['id']})]; res(m,{'content':[]})",
        CallToolResult,
    ),
    "requests odd": (
        "[out(json.dumps({'jsonrpc':'2.0','id':i,'method':mm,'params':p})) for i,mm,p in ((None,'ping',{}),('a','ping',None),(1.5,'ping',[]),(0,'x/y',5),('',' ',None),('b','sampling/createMessage',None),('c','elicitation/create',{}),('d','roots/list',None))]; res(m,{'content':[]})",
        CallToolResult,
    ),
    "dup answers": ("res(m,{'content':[]}); res(m,{'content':[{'type':'text','text':'second'}]})", CallToolResult),
    "u2028": (
        'out(\'{"jsonrpc":"2.0","id":%d,"result":{"content":[{"type":"text","text":"a\\u2028b\\u0085c"}]}}\'%m[\'id\'])',
        CallToolResult,
    ),
    "stderr flood": ("sys.stderr.write('x'*3000000); sys.stderr.flush(); res(m,{'content':[]})", CallToolResult),
    "close stdout": ("os.close(1); time.sleep(30)", PeerGone),
    "fork holds": ("subprocess.Popen(['sleep','30']); sys.exit(4)", PeerGone),
}

ENDS_THE_SERVER = {"exit no newline", "exit 3", "abort", "truncated exit", "close stdout", "fork holds"}


@pytest.mark.parametrize(
    ("fault", "protocol"),
    # How the conversation begins makes a difference to what ends the server only.
    [*((fault, "handshake") for fault in FAULTS), *((fault, "detect") for fault in sorted(ENDS_THE_SERVER))],
)
async def test_a_fault_costs_its_own_call_at_once(fault, protocol):
    program, expected = FAULTS[fault]
    server = StdioServer([sys.executable, "-c", SERVER, program], eof_grace=0.5, term_grace=0.5)
    options = McpOptions(protocol=protocol, total=60, start=60, supervision=None)
    async with open_mcp(server, name="s", options=options) as client:
        try:
            found = await client.call_tool("fault")
        except McpError as exc:
            found = exc
        assert type(found) is expected
        if fault in ENDS_THE_SERVER:
            with pytest.raises(PeerGone):
                await client.call_tool("next")
        else:
            assert (await client.call_tool("next")).text == "fine"


async def test_calls_beside_a_faulty_one_are_answered():
    faulty = [program for program, expected in FAULTS.values() if expected is ProtocolViolation][0]
    server = StdioServer([sys.executable, "-c", SERVER, faulty])
    async with open_mcp(server, options=McpOptions(protocol="handshake", total=60)) as client:
        found = []

        async def call(name):
            try:
                found.append((await client.call_tool(name)).text)
            except (PeerError, ProtocolViolation):
                found.append("fault")

        async with trio.open_nursery() as nursery:
            for number in range(50):
                nursery.start_soon(call, "fault" if number % 5 == 0 else f"tool {number}")
    assert (found.count("fine"), found.count("fault")) == (40, 10)
