"""Tells people by mail, in Slack or over HTTP what the site's profile wants told (``notify``)."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from proctor.site.events import Watch, changed
from proctor.site.home import PROFILE_FILE
from proctor.site.instance import Instance
from proctor.site.outgoing import Outgoing
from proctor.site.senders import targets

# A launcher on its way out waits this long for what is not sent yet; it keeps.
FINISH_SECONDS = 30.0
_TOLD = "sent.json"


@dataclass
class Messenger:
    """Call :meth:`look` from the launcher's loop; it never waits for anybody.

    What it tells happened after the profile was last changed. An event is first written down for
    everybody, then marked as told, and only then handed over: so a launcher that is killed
    anywhere neither forgets one nor tells it twice.
    """

    instance: Instance
    _wanted: tuple[str, ...] = ()
    _outgoing: Outgoing | None = None
    _watch: Watch = field(init=False)
    _began: bool = False
    _complained: str = ""

    def __post_init__(self) -> None:
        self._watch = Watch(self.instance, _TOLD)
        if notify := self.instance.home.profile().notify:
            self._wanted = notify.events
            self._outgoing = Outgoing(self.instance.home.path / "notify", tuple(targets(notify)))

    def look(self, due: bool) -> list[str]:
        """Have told what was not; what went wrong with it, in lines.

        ``due``: whether to look for events.
        """
        out = self._outgoing
        if out is None:
            return []
        problem = ""
        try:
            if due:
                self._send_what_is_new(out)
        except OSError as error:  # of this machine's disk; the next look is soon enough
            self._watch = Watch(self.instance, _TOLD)
            problem = f"nobody is told of anything: {error.strerror or error}"
        first, self._complained = problem != self._complained, problem
        return [*([problem] if problem and first else []), *out.notes()]

    def _send_what_is_new(self, out: Outgoing) -> None:
        for event in self._watch.find(changed(self._profile)):
            wanted = event.content["event"] in self._wanted
            files = out.write(event.content, event.id) if wanted else []
            event.mark_told()
            if self._began:
                out.hand(files)
        if not self._began:
            self._began = True
            out.take_up()

    def finish(self) -> list[str]:
        """Tell the rest; as long as that may take, and no longer."""
        said = self.look(True)
        return said + self._outgoing.finish(FINISH_SECONDS) if self._outgoing else []

    @property
    def _profile(self) -> Path:
        return self.instance.home.path / PROFILE_FILE
