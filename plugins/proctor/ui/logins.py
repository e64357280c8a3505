"""Logins and rights for a shared server (``auth: fab`` in site.yaml): Airflow's FAB auth manager,
with the four roles of Proctor, and with the users that the profile names.

FAB's own roles do not fit: none answers gates without being able to set them to success as well,
its Viewer does not see the tabs of plugins, and its User deletes DAGs and runs.
"""

from __future__ import annotations

import secrets
from functools import cached_property
from typing import Any

from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity, DagDetails
from airflow.providers.fab.auth_manager.fab_auth_manager import FabAuthManager
from airflow.providers.fab.auth_manager.models import User
from airflow.providers.fab.auth_manager.security_manager.override import (
    FabAirflowSecurityManagerOverride,
)
from werkzeug.security import check_password_hash

from proctor.airflow import instance
from proctor.site.settings import Credentials, roles, user_name

_SEEN = (
    *("DAGs", "DAG Runs", "DAG Code", "DAG Versions", "DAG Dependencies", "DAG Warnings"),
    *("Task Instances", "Task Logs", "XComs", "HITL Detail", "ImportError"),
    *("Assets", "Asset Aliases", "Backfills", "Pools", "Jobs", "Cluster Activity"),
    # Without it the UI shows no tab of a plugin: no evidence, no report.
    *("Plugins", "Website", "My Profile", "My Password"),
)
_IN_MENU = ("DAGs", "DAG Runs", "Task Instances", "HITL Detail", "Assets", "Browse")

VIEWER = frozenset(
    {("can_read", thing) for thing in _SEEN}
    | {("menu_access", thing) for thing in _IN_MENU}
    | {("can_edit", "My Password")}
)
APPROVER = VIEWER | {("can_edit", "HITL Detail")}
# Who may clear a task may set its state as well: Airflow has one right for both. What stands
# behind a gate asks for the signed answer, whatever the gate's state.
OPERATOR = APPROVER | {
    ("can_edit", "DAGs"),
    ("can_create", "DAG Runs"),
    ("can_edit", "DAG Runs"),
    ("can_edit", "Task Instances"),
}
_OURS = {"Viewer": VIEWER, "Approver": APPROVER, "Operator": OPERATOR}


class ProctorSecurityManager(FabAirflowSecurityManagerOverride):
    """FAB's tables of roles and users, brought to what Proctor and the profile say at each start.

    The administrator's role is FAB's own: everything.
    """

    ROLE_CONFIGS = [  # noqa: RUF012
        {"role": "Public", "perms": []},
        *({"role": name, "perms": sorted(rights)} for name, rights in _OURS.items()),
        *(c for c in FabAirflowSecurityManagerOverride.ROLE_CONFIGS if c["role"] == "Admin"),
    ]

    def sync_roles(self) -> None:
        """Create what is missing, then take away what is too much."""
        super().sync_roles()
        for name, rights in _OURS.items():
            role = self.add_role(name)  # finds the one that is there
            role.permissions = [
                each
                for each in role.permissions
                if (each.action.name, each.resource.name) in rights
            ]
        self.session.commit()
        self._sync_users()

    def _sync_users(self) -> None:
        """Users are those of the profile and the owner; others keep their history and no login."""
        home = instance.home()
        known = roles(home)
        for name, role in known.items():
            user = self.settled(name, role)
            if name == user_name():
                self._give_launcher(user, Credentials.of(home).password)
        for user in self.get_all_users():
            if user.username not in known and user.active:
                user.active = False
                self.update_user(user)

    def settled(self, name: str, role: str) -> User:
        """The user of that name, with exactly that role; made where there is none.

        Nobody knows a new user's password: a login link, or ``proctor user password``, lets in.
        """
        user, wanted = self.find_user(username=name), self.add_role(role.capitalize())
        if user is None:
            unknown = secrets.token_urlsafe(32)
            return self.add_user(name, name, "", f"{name}@users.invalid", wanted, unknown)
        if (user.username, user.roles, user.active) != (name, [wanted], True):
            user.username, user.roles, user.active = name, [wanted], True
            self.update_user(user)
        return user

    def _give_launcher(self, owner: User, password: str) -> None:
        """The launcher logs in as the owner, with the password that the home keeps for it."""
        if not check_password_hash(str(owner.password), password):
            owner.password = self._hash_password(password)
            self.update_user(owner)


class ProctorAuthManager(FabAuthManager):
    """FAB's, where answering at a gate is a right of its own, and approvers are users' names."""

    @cached_property
    def security_manager(self) -> ProctorSecurityManager:
        """Roles and users."""
        return ProctorSecurityManager(self.appbuilder)  # type: ignore[no-untyped-call]

    def is_authorized_dag(
        self,
        *,
        method: Any,
        user: User,
        access_entity: DagAccessEntity | None = None,
        details: DagDetails | None = None,
    ) -> bool:
        """As FAB has it, which wants the right to edit the DAG of whoever answers in it.

        That one would let an approver pause the pipeline, too. Seeing the DAG is enough here.
        """
        if access_entity is DagAccessEntity.HITL_DETAIL and method == "PUT":
            sees = super().is_authorized_dag(method="GET", details=details, user=user)
            answers = self._is_authorized(method="PUT", resource_type="HITL Detail", user=user)
            return bool(sees and answers)
        return bool(
            super().is_authorized_dag(
                method=method, user=user, access_entity=access_entity, details=details
            )
        )

    def is_authorized_hitl_task(self, *, assigned_users: set[str], user: User) -> bool:
        """Whether one of a spec's ``approvers`` answers; FAB compares its own numbers of users."""
        return user.get_name() in assigned_users

    def token_of(self, name: str, role: str) -> str:
        """A session of the user who showed a login link, with the role that she has by now."""
        assert self.flask_app is not None  # noqa: S101 - Airflow makes it before it serves
        with self.flask_app.app_context():
            try:
                return str(self.generate_jwt(self.security_manager.settled(name, role)))
            finally:
                self.security_manager.session.remove()


__all__ = ["ProctorAuthManager", "ProctorSecurityManager"]
