"""A browser without a screen for the web view: reads what the page is sent, moves its sliders."""

from __future__ import annotations

import threading

import msgspec
import viser
import websockets
import websockets.sync.client
import zstandard


class Visitor:
    """Connects to a page's socket and says where its camera is, as the page does.

    Attributes:
        bytes: Received so far.
        updates: Properties of scene nodes that were set, at their making or later, as (node, property), in order.
        moved: Nodes whose position or orientation was set, in order.
        inputs: Identifiers of the panel's inputs and buttons by their labels.
        values: What each input shows, by its identifier.
    """

    def __init__(self, address: str) -> None:
        self.bytes = 0
        self.updates: list[tuple[str, str]] = []
        self.moved: list[str] = []
        self.inputs: dict[str, str] = {}
        self.values: dict[str, object] = {}
        self._socket = websockets.sync.client.connect(
            address.replace("http", "ws", 1), subprotocols=[f"viser-v{viser.__version__}"], max_size=None
        )
        self._send(
            type="ViewerCameraMessage", wxyz=(1.0, 0.0, 0.0, 0.0), position=(0.0, 0.0, 0.0), image_height=480,
            image_width=640, fov=1.0, near=0.1, far=100.0, look_at=(1.0, 0.0, 0.0), up_direction=(0.0, 0.0, 1.0),
        )  # fmt: skip
        self._thread = threading.Thread(target=self._read, name="visitor", daemon=True)
        self._thread.start()

    def set(self, label: str, value: object) -> None:
        """Do what the page does when a visitor changes an input."""
        self._send(type="GuiUpdateMessage", uuid=self.inputs[label], updates={"value": value})

    def value(self, label: str) -> object:
        """Return what an input shows."""
        return self.values.get(self.inputs.get(label, ""))

    def leave(self) -> None:
        self._socket.close()
        self._thread.join(10)

    def _send(self, **message: object) -> None:
        self._socket.send(msgspec.msgpack.encode(message))

    def _read(self) -> None:
        try:
            for data in self._socket:
                self.bytes += len(data)
                for message in _messages(data):
                    self._take(message)
        except websockets.ConnectionClosed:
            pass

    def _take(self, message: dict) -> None:
        kind = message["type"]
        if kind == "SceneNodeUpdateMessage":
            self.updates += [(message["name"], key) for key in message["updates"]]
        elif kind in ("SetPositionMessage", "SetOrientationMessage"):
            self.moved.append(message["name"])
        elif "name" in message and "props" in message:  # a node that is new
            self.updates += [(message["name"], key) for key in message["props"]]
        elif kind == "GuiUpdateMessage":
            if "value" in message["updates"]:
                self.values[message["uuid"]] = message["updates"]["value"]
        elif kind == "GuiButtonMessage":
            self.inputs[message["props"]["label"]] = message["uuid"]
        elif kind in ("GuiSliderMessage", "GuiCheckboxMessage"):
            self.inputs[message["props"]["label"]] = message["uuid"]
            self.values[message["uuid"]] = message["value"]


def _messages(data: bytes) -> list[dict]:
    """Decode one packet: two lengths, compressed msgpack, then the arrays, which are not looked at."""
    packed = int.from_bytes(data[8:16], "little")
    return msgspec.msgpack.decode(zstandard.ZstdDecompressor().decompress(data[16 : 16 + packed]))["messages"]
