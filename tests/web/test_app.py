"""The command itself: what it refuses, what it says, how it ends; and the page's own words."""

import re
import socket
from pathlib import Path

import httpx
import pytest
from tests.web.conftest import opened

from encoderlab.errors import MissingError, UsageError
from encoderlab.web import app
from encoderlab.web.choices import model_choices
from encoderlab.web.i18n import LANGUAGES, OURS, phrases

SOURCE = Path(app.__file__).parent


def test_both_languages_have_the_same_keys_and_no_empty_word():
    english, korean = (phrases(language) for language in LANGUAGES)
    assert english.keys() == korean.keys()
    assert all(text.strip() for text in [*english.values(), *korean.values()])
    assert [key for key in korean if not re.search("[가-힣]", korean[key])] == ["coral_tab"]


def test_every_word_is_used_and_every_used_word_is_there():
    files = [*SOURCE.rglob("*.py"), SOURCE / "page.js"]
    source = "".join(file.read_text(encoding="utf-8") for file in files)
    for key in phrases("en"):
        made = key.endswith(("_tab", "_about")) or key.startswith(("attention_", "example"))
        assert made or f'"{key}"' in source or f"'{key}'" in source or OURS + key in source, key


def test_taken_port_gets_a_sentence():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(UsageError, match=rf"cannot be opened.*127.0.0.1:{port}.*--port 0"):
            app.run(port=port)


@pytest.mark.parametrize("auth", ["nobody", ":", "user:", ":secret"])
def test_login_without_user_or_password_is_refused_and_the_password_not_repeated(auth):
    with pytest.raises(UsageError, match="the login is no user and password") as error:
        app.run(auth=auth)
    assert "secret" not in str(error.value)


def test_without_gradio_the_sentence_names_the_extra(monkeypatch):
    monkeypatch.setattr(app, "find_spec", lambda name: None)
    with pytest.raises(MissingError, match=r'pip install "encoderlab\[web\]"'):
        app.run()


def test_index_that_is_not_there_is_said_before_the_page_opens(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(MissingError, match="nowhere"):
        app.run(port=0, db="nowhere")
    assert not list(tmp_path.glob("outputs/app/visitors-*"))


def test_only_this_machine_is_offered_models_that_must_be_fetched():
    alone = model_choices(host="127.0.0.1", share=False, encoders=(), llms=())
    assert "paligemma" in alone.encoders and "llama" in alone.llms
    for host, share in (("0.0.0.0", False), ("127.0.0.1", True)):
        open_to_others = model_choices(host=host, share=share, encoders=(), llms=())
        assert set(open_to_others.encoders) == {"tiny-clip", "tiny-dinov2", "tiny-siglip"}


def test_any_model_means_any_of_the_hub_and_no_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "org/model").mkdir(parents=True)
    offer = model_choices(host="127.0.0.1", share=False, encoders=(), llms=(), any_model=True)
    assert offer.check("encoder", ["org/other@main"]) == ["org/other@main"]
    for name in ("org/model", "../org/model", "/etc", str(tmp_path)):
        for kind in ("encoder", "VLM"):
            with pytest.raises(UsageError, match=f"does not offer the {kind}"):
                offer.check(kind, [name])


def test_a_vlm_in_a_folder_is_offered_only_where_it_is_named():
    usual = model_choices(host="127.0.0.1", share=False)
    assert usual.vlms == ("tiny-vlm", "tiny-vlm-shuffle3", "tiny-vlm-shuffle4")
    named = model_choices(host="127.0.0.1", share=False, vlms=["tiny-vlm", "outputs/vlm-train"])
    assert named.check("VLM", ["outputs/vlm-train"]) == ["outputs/vlm-train"]
    with pytest.raises(UsageError, match="does not offer the VLM"):
        usual.check("VLM", ["outputs/vlm-train"])


@pytest.mark.slow
def test_command_opens_the_page_asks_for_a_login_and_cleans_up(tmp_path):
    with opened(tmp_path, ENCODERLAB_APP_AUTH="lab:secret") as (address, _):
        assert httpx.get(address + "/config").status_code == 401
        form = {"username": "lab", "password": "secret"}
        with httpx.Client(base_url=address) as client:
            assert client.post("/login", data={**form, "password": "no"}).status_code == 400
            client.post("/login", data=form).raise_for_status()
            assert client.get("/config").json()["title"] == "EncoderLab"
        assert list((tmp_path / "outputs/app").glob("visitors-*"))
    err = (tmp_path / "err").read_text()
    assert f"EncoderLab is open at {address} (Ctrl-C closes it)" in err
    assert "secret" not in err and "Traceback" not in err
    assert (tmp_path / "out").read_text().strip() == f"closed: {address}"
    assert not list((tmp_path / "outputs/app").glob("visitors-*"))
