"""The network: between a process and the providers, and from the providers back to us."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any

import msgspec

from bursar.rails.transport import START_TOO_LATE, Request, Response, TransportFailure
from bursar_sim.callback import NoReply, Unreachable
from soak import asgi
from soak.process import Node
from soak.promises import PROMISES
from soak.world import World

KNOWN, REFUSED, UNAUTHORIZED = 200, 422, 401
UNLISTED = ("under_review", "MS03")
"""A code of the off-ramp's form and one of the bank's, in no contract."""


class Send(msgspec.Struct):
    """One instruction that was put on the wire, as the network saw it.

    `refused`: the status of a whole reply that says that it was not taken; 0 if none came.
    """

    at: float
    refused: int = 0


class Wire:
    """What the network knows that nobody else does: which instruction left when."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.sends: dict[tuple[str, str], list[Send]] = {}

    def proves_nothing_left(self, provider: str, key: str) -> bool:
        """Whether the last send under a key was refused, and no earlier one can still arrive.

        The refusal of a send proves nothing about an earlier one whose window is open (F12), and
        refused credentials prove nothing about any other (F90). An order that was known already,
        and is said to have failed, speaks of the earlier ones.
        """
        *earlier, last = self.sends.get((provider, key), [Send(0.0)])
        over = all(send.at + PROMISES[provider].over_s <= last.at for send in earlier)
        return over and last.refused in ({REFUSED, KNOWN} if earlier else {REFUSED, UNAUTHORIZED})

    def too_early_s(self, provider: str, key: str, moment: float) -> float:
        """How long after `moment` what was sent under a key may still be executed; 0 if it can't.

        A refusal that proves that nothing left counts at once.
        """
        if self.proves_nothing_left(provider, key):
            return 0.0
        over_s = PROMISES[provider].over_s
        sends = self.sends.get((provider, key), ())
        return max((send.at + over_s - moment for send in sends), default=0.0)

    def begun(self, provider: str, key: str) -> Send:
        """An instruction's first byte leaves now."""
        send = Send(self.world.loop.time())
        sends = self.sends.setdefault((provider, key), [])
        sends.append(send)
        if send.at - sends[0].at > PROMISES[provider].key_life_s:
            self.world.broken("F19", f"{key} is sent again after its life at {provider}")
        return send


class NodeTransport:
    """A process's way to one provider. Implements `rails.transport.Transport`."""

    def __init__(self, wire: Wire, node: Node, provider: str, app: Any) -> None:
        self._wire = wire
        self._world = wire.world
        self._node = node
        self._provider = provider
        self._app = app

    async def send(self, request: Request) -> Response:
        """The reply, or how the exchange failed; the request may arrive all the same."""
        world, node = self._world, self._node
        await node.forever()
        if world.strikes("net.stall_before"):
            await self._stall()
        late = request.must_start_before
        if late is not None and node.clock.monotonic() >= late:
            world.fired["net.start_too_late"] += 1
            raise TransportFailure(request_bytes_written=False, reason=START_TOO_LATE)
        if world.strikes("net.connect_refused"):
            raise TransportFailure(request_bytes_written=False, reason="connect_failed")
        sent = None
        if request.method == "POST":
            order = json.loads(request.body)
            key = order.get("end_to_end_id") or order["client_reference"]
            sent = self._wire.begun(self._provider, key)
        try:
            reply = await self._exchange(request, request.deadline_s)
        except TransportFailure as failure:
            world.note(node.label, f"{request.method} {self._provider}: {failure.reason}")
            raise
        else:
            if sent is not None:
                sent.refused = _refuses(reply, self._provider)
            world.note(node.label, f"{request.method} {self._provider}: {reply.status}")
        finally:
            if world.strikes("net.stall_after"):
                await self._stall()
            await node.forever()
        return reply

    async def _stall(self) -> None:
        """The process stands still: stopped, swapped out, or its machine suspended."""
        await asyncio.sleep(self._world.tape.uniform("net.stall", 0.0, 9.0))
        await self._node.forever()

    async def _exchange(self, request: Request, deadline_s: float) -> Response:
        world = self._world
        if world.strikes("net.request_lost"):
            await asyncio.sleep(deadline_s)
            raise TransportFailure(request_bytes_written=True, reason="deadline_exceeded")
        # What left is the network's: neither our patience nor our life can call it back.
        served = world.go(self._serve(request))
        done, _ = await asyncio.wait({served}, timeout=deadline_s)
        if not done or served.exception() is not None:
            reason = "connection_reset" if done else "deadline_exceeded"
            raise TransportFailure(request_bytes_written=True, reason=reason)
        answer: asgi.Answer = served.result()
        if world.strikes("net.reply_lost"):
            await asyncio.sleep(deadline_s)
            raise TransportFailure(request_bytes_written=True, reason="deadline_exceeded")
        if world.strikes("net.reset_mid_body"):
            raise TransportFailure(request_bytes_written=True, reason="connection_reset")
        body = answer.body
        if answer.status == REFUSED and world.strikes("net.unlisted_code"):
            body = _with_unlisted_code(body)
        if world.strikes("net.reply_cut_short"):
            body = body[: world.tape.below("net.cut_at", max(len(body), 1))]
        return Response(status=answer.status, headers=answer.headers, body=body)

    async def _serve(self, request: Request) -> asgi.Answer:
        await asyncio.sleep(self._delay(request.deadline_s))
        return await asgi.call(
            self._app, request.method, request.path, request.headers, request.body
        )

    def _delay(self, deadline_s: float) -> float:
        """A request arrives within the client's deadline: after it the connection is closed."""
        world = self._world
        top = deadline_s * 0.99 if world.strikes("net.slow") else 0.005
        return world.tape.uniform("net.delay", 0.0005, top)


def _refuses(reply: Response, provider: str) -> int:
    """The status of a reply that is readable to its end and says that nothing was taken, or 0.

    It says so by a code that the provider's contract lists (F14).
    """
    try:
        told = json.loads(reply.body)
    except ValueError:
        return 0
    code = told.get("code") if isinstance(told, dict) else None
    promises = PROMISES[provider]
    listed = code in promises.ours | promises.theirs
    refuses = {
        KNOWN: listed and told.get("status") == "failed",
        REFUSED: listed,
        UNAUTHORIZED: code == "unauthorized",
    }
    return reply.status if refuses.get(reply.status) else 0


def _with_unlisted_code(body: bytes) -> bytes:
    """A refusal for a reason that the contract does not list."""
    told = json.loads(body)
    return json.dumps(told | {"code": UNLISTED[told["code"].isupper()]}).encode()


class NodePoster:
    """The providers' way to us. Implements `bursar_sim.callback.Poster`."""

    def __init__(self, world: World, provider: str, receive: Any) -> None:
        """`receive(headers, body)` is one of our processes: the status, or None if it died."""
        self._world = world
        self._provider = provider
        self._receive = receive

    async def post(self, headers: Mapping[str, str], body: bytes) -> int:
        """The status of one delivery. Raises `Unreachable` or `NoReply`."""
        world = self._world
        top = 3.0 if world.strikes("hook.slow") else 0.01
        await asyncio.sleep(world.tape.uniform("hook.delay", 0.0005, top))
        if world.strikes("hook.lost"):
            await asyncio.sleep(1.0)
            raise NoReply("lost on the way")
        status: int | None = await self._receive(dict(headers), body)
        if status is None:
            raise Unreachable("nobody listens")
        world.note(self._provider, f"event: {status}")
        if world.strikes("hook.reply_lost"):
            raise NoReply("the reply was lost")
        return status
