"""A visitor of the web page without a browser: presses a button by its name and reads the answer.

Speaks Gradio's queue over HTTP, as the page's own script does.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from typing import Any

import httpx


class WebVisitor:
    """One opened page.

    Args:
        address: of the page, such as http://127.0.0.1:7860.
    """

    def __init__(self, address: str, timeout: float = 300.0, auth: Any = None) -> None:
        self.http = httpx.Client(base_url=address, timeout=timeout)
        if auth is not None:
            user, password = auth
            form = {"username": user, "password": password}
            self.http.post("/login", data=form).raise_for_status()
        self.session = secrets.token_hex(6)
        config = self.http.get("/config").raise_for_status().json()
        self.components = {one["id"]: one for one in config["components"]}
        self.events = config["dependencies"]

    def close(self) -> None:
        """Ends the connection."""
        self.http.close()

    def fields(self, button: str) -> dict[int, Any]:
        """The fields that a button sends, with the values they start with."""
        event = self._event(button)
        return {one: self.components[one]["props"].get("value") for one in event["inputs"]}

    def press(self, button: str, values: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Presses the button with the given element id.

        Args:
            values: what stands in fields instead, by the element id or the key of the label.

        Returns:
            What each output that has an element id shows.

        Raises:
            RuntimeError: the request failed.
        """
        event = self._event(button)
        given = dict(values or {})
        data = []
        for number, value in self.fields(button).items():
            name = self._name(number, given)
            data.append(given.pop(name) if name is not None else value)
        if given:
            raise KeyError(f"{button} has no field {next(iter(given))!r}")
        self.http.post(
            "/gradio_api/queue/join",
            json={
                "data": data, "fn_index": event["id"], "session_hash": self.session,
                "event_data": None, "trigger_id": event["targets"][0][0],
            },
        ).raise_for_status()  # fmt: skip
        found = self._answer()
        if not found["success"]:
            raise RuntimeError(f"{button}: {found['output'].get('error')}")
        # The run has no outputs; an event that comes after it shows them.
        after = next(one for one in self.events if one["trigger_after"] == event["id"])
        told = self.http.post(
            "/gradio_api/run/predict",
            json={"data": [], "fn_index": after["id"], "session_hash": self.session},
        ).raise_for_status()
        shown = {}
        for number, value in zip(after["outputs"], told.json()["data"], strict=True):
            name = self.components[number]["props"].get("elem_id")
            if name:
                updated = isinstance(value, dict) and value.get("__type__") == "update"
                shown[name] = value.get("value") if updated else value
        return shown

    def upload(self, name: str, content: bytes) -> dict[str, Any]:
        """Uploads a file; gives what a field of images takes.

        Raises:
            httpx.HTTPStatusError: it is not taken.
        """
        answer = self.http.post("/gradio_api/upload", files={"files": (name, content)})
        (path,) = answer.raise_for_status().json()
        return {"path": path, "orig_name": name, "meta": {"_type": "gradio.FileData"}}

    def _answer(self) -> dict[str, Any]:
        where = "/gradio_api/queue/data"
        with self.http.stream("GET", where, params={"session_hash": self.session}) as stream:
            for line in stream.iter_lines():
                if line.startswith("data:"):
                    told = json.loads(line[5:])
                    if told["msg"] == "process_completed":
                        return told
                    if told["msg"] in ("queue_full", "unexpected_error"):
                        raise RuntimeError(told.get("message") or told["msg"])
        raise RuntimeError("the answer ended before it came")

    def _event(self, button: str) -> dict[str, Any]:
        for event in self.events:
            for number, kind in event["targets"]:
                props = self.components.get(number, {}).get("props", {})
                if kind == "click" and props.get("elem_id") == button:
                    return event
        raise KeyError(f"the page has no button {button!r}")

    def _name(self, number: int, given: Mapping[str, Any]) -> str | None:
        props = self.components[number]["props"]
        label = str(props.get("label"))
        for name in given:
            if name == props.get("elem_id") or f'"encoderlab_{name}"' in label:
                return name
        return None
