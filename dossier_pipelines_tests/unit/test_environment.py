"""Settings: every one has a default, and an impossible value fails by its name with what would be possible."""

from __future__ import annotations

import re
from dataclasses import fields
from datetime import date
from pathlib import Path

import pytest

import dossier_pipelines
from dossier_pipelines.shared.environment import Settings, SmtpSettings, WhatsAppSettings, read_settings
from dossier_pipelines.shared.failures import SettingError

PACKAGE = Path(dossier_pipelines.__file__).parent
EXAMPLE = PACKAGE.parent / ".env.example"
# Settings that keep the names of the original.
OTHERS = {"ENABLE_SCHEDULED_JOBS", "HEALTH_REFRESH_INTERVAL_MINUTES", "OVERDUE_CHECK_HOUR"}


def test_nothing_has_to_be_set() -> None:
    assert read_settings({}) == Settings()
    assert Settings().data_directory == Path(".dossier")
    assert Settings().timezone == "Asia/Riyadh"


def test_every_setting_is_read_by_its_name() -> None:
    settings = read_settings(
        {
            "DOSSIER_DATABASE_URL": "postgresql://host/dossier",
            "DOSSIER_DATA_DIR": "/data/dossier",
            "DOSSIER_SOURCE": "exports",
            "DOSSIER_MAPPING": "crm.toml",
            "DOSSIER_SOURCE_API_KEY": "key",
            "DOSSIER_LITIGATION_SOURCE": "cases",
            "DOSSIER_LITIGATION_MAPPING": "cases.toml",
            "DOSSIER_OVERDUE_GRACE_MINUTES": "20",
            "DOSSIER_TENANT": "ministry-1",
            "DOSSIER_TIMEZONE": "Europe/Brussels",
            "DOSSIER_HEALTH_CONFIG": "health.toml",
            "DOSSIER_MAX_REJECTED_SHARE": "0.1",
            "DOSSIER_FULL_REFRESH": "true",
            "DOSSIER_MAX_REMOVED_SHARE": "1",
            "DOSSIER_ALLOW_EMPTY": "on",
            "ENABLE_SCHEDULED_JOBS": "false",
            "DOSSIER_LOAD_INTERVAL_MINUTES": "120",
            "HEALTH_REFRESH_INTERVAL_MINUTES": "30",
            "OVERDUE_CHECK_HOUR": "5",
            "DOSSIER_DAILY_NOTIFICATIONS": "3",
            "DOSSIER_OPERATIONS_RECIPIENTS": "one@ministry.example, two@ministry.example,",
            "DOSSIER_SMTP_HOST": "mail.ministry.example",
            "DOSSIER_SMTP_PORT": "2525",
            "DOSSIER_SMTP_ENCRYPTION": "Implicit",
            "DOSSIER_SMTP_USERNAME": "desk",
            "DOSSIER_SMTP_PASSWORD": " with blanks ",
            "DOSSIER_SMTP_CA_FILE": "ca.pem",
            "DOSSIER_MAIL_FROM": "Desk <desk@ministry.example>",
            "DOSSIER_WEBHOOK_URL": "https://hooks.ministry.example/in",
            "DOSSIER_WEBHOOK_SECRET": "whsec_c2VjcmV0",
            "DOSSIER_WHATSAPP_URL": "https://graph.ministry.example/v26.0/",
            "DOSSIER_WHATSAPP_PHONE_NUMBER_ID": "106540352242922",
            "DOSSIER_WHATSAPP_TOKEN": "EAAtoken",
            "DOSSIER_WHATSAPP_TEMPLATES": "hearing_reminder=hearing_v2, task_overdue = overdue_v1,",
            "DOSSIER_APP_URL": "https://desk.ministry.example/app/",
            "DOSSIER_MAILS_PER_RUN": "100",
            "DOSSIER_WHATSAPPS_PER_RUN": "80",
            "DOSSIER_WEBHOOKS_PER_RUN": "1000",
            "DOSSIER_DELIVERY_PROCESSES": "4",
            "DOSSIER_RULE_EXECUTIONS_PER_RUN": "50",
            "DOSSIER_RULE_ATTEMPTS": "3",
            "DOSSIER_HISTORY_START": "2010-01-01",
            "DOSSIER_HISTORY_DAYS": "3650",
        }
    )
    assert settings == Settings(
        database_url="postgresql://host/dossier",
        data_directory=Path("/data/dossier"),
        source="exports",
        mapping=Path("crm.toml"),
        source_api_key="key",
        litigation_source="cases",
        litigation_mapping=Path("cases.toml"),
        overdue_grace_minutes=20,
        tenant_id="ministry-1",
        timezone="Europe/Brussels",
        health_config=Path("health.toml"),
        max_rejected_share=0.1,
        full_refresh=True,
        max_removed_share=1.0,
        allow_empty=True,
        scheduled_jobs=False,
        load_interval_minutes=120,
        refresh_interval_minutes=30,
        overdue_check_hour=5,
        daily_notifications=3,
        operations_recipients=("one@ministry.example", "two@ministry.example"),
        smtp=SmtpSettings(
            host="mail.ministry.example",
            port=2525,
            encryption="implicit",
            username="desk",
            password=" with blanks ",
            ca_file=Path("ca.pem"),
        ),
        mail_from="Desk <desk@ministry.example>",
        webhook_url="https://hooks.ministry.example/in",
        webhook_secret="whsec_c2VjcmV0",
        whatsapp=WhatsAppSettings(
            url="https://graph.ministry.example/v26.0",
            phone_number_id="106540352242922",
            token="EAAtoken",
            templates=(("hearing_reminder", "hearing_v2"), ("task_overdue", "overdue_v1")),
        ),
        app_url="https://desk.ministry.example/app",
        mails_per_run=100,
        whatsapps_per_run=80,
        webhooks_per_run=1000,
        delivery_processes=4,
        rule_executions_per_run=50,
        rule_attempts=3,
        history_start=date(2010, 1, 1),
        history_days=3650,
    )
    assert all(getattr(settings, field.name) != getattr(Settings(), field.name) for field in fields(Settings))


def test_an_empty_variable_is_one_that_is_not_set() -> None:
    names = {*re.findall(r"DOSSIER_[A-Z_]+", EXAMPLE.read_text(encoding="utf-8")), *OTHERS}
    assert read_settings(dict.fromkeys(names, "")) == Settings()
    assert read_settings({**dict.fromkeys(names, "  "), "DOSSIER_SOURCE_API_KEY": ""}) == Settings()


def test_a_home_directory_is_found() -> None:
    assert read_settings({"DOSSIER_DATA_DIR": "~/dossier"}).data_directory == Path.home() / "dossier"


@pytest.mark.parametrize("word", ["1", "true", "TRUE", "yes", "on", " True "])
def test_a_flag_is_raised_by_any_usual_word(word: str) -> None:
    assert read_settings({"DOSSIER_FULL_REFRESH": word}).full_refresh


@pytest.mark.parametrize("word", ["0", "false", "No", "off", ""])
def test_a_flag_is_lowered_by_any_usual_word(word: str) -> None:
    assert not read_settings({"DOSSIER_FULL_REFRESH": word}).full_refresh


@pytest.mark.parametrize(
    ("name", "value", "advice"),
    [
        ("DOSSIER_FULL_REFRESH", "ja", "write true or false"),
        ("DOSSIER_ALLOW_EMPTY", "2", "write true or false"),
        ("DOSSIER_MAX_REJECTED_SHARE", "5%", "a share between 0 and 1, such as 0.5"),
        ("DOSSIER_MAX_REJECTED_SHARE", "1.01", "a share between 0 and 1"),
        ("DOSSIER_MAX_REJECTED_SHARE", "-0.1", "a share between 0 and 1"),
        ("DOSSIER_MAX_REMOVED_SHARE", "nan", "a share between 0 and 1, such as 0.2"),
        ("DOSSIER_TENANT", "a b", "at most 40 letters, digits, hyphens and underscores"),
        ("DOSSIER_TENANT", "x" * 41, "at most 40 letters"),
        ("DOSSIER_TENANT", "größe", "at most 40 letters"),
        ("DOSSIER_TENANT", "'; DROP SCHEMA raw; --", "at most 40 letters"),
        ("DOSSIER_TIMEZONE", "Riyadh", "Use a name such as Asia/Riyadh"),
        ("ENABLE_SCHEDULED_JOBS", "maybe", "write true or false"),
        ("OVERDUE_CHECK_HOUR", "24", "write a whole number from 0 to 23, such as 2"),
        ("OVERDUE_CHECK_HOUR", "-1", "write a whole number from 0 to 23"),
        ("OVERDUE_CHECK_HOUR", "2.5", "write a whole number from 0 to 23"),
        ("OVERDUE_CHECK_HOUR", "²", "write a whole number from 0 to 23"),
        ("DOSSIER_DAILY_NOTIFICATIONS", "0", "write a whole number from 1 to 1000, such as 10"),
        ("DOSSIER_DAILY_NOTIFICATIONS", "1001", "write a whole number from 1 to 1000"),
        ("DOSSIER_MAILS_PER_RUN", "-5", "write a whole number from 0 to 1000000"),
        ("DOSSIER_HISTORY_START", "soon", "write a day such as 2002-01-01"),
        ("DOSSIER_HISTORY_START", "1066-10-14", "between 1900 and 2199"),
        ("DOSSIER_HISTORY_DAYS", "1", "write a whole number from 31 to 36500"),
        ("DOSSIER_DELIVERY_PROCESSES", "0", "write a whole number from 1 to 32"),
        ("DOSSIER_RULE_EXECUTIONS_PER_RUN", "0", "write a whole number from 1 to 1000000, such as 1000"),
        ("DOSSIER_RULE_ATTEMPTS", "many", "write a whole number from 1 to 100, such as 5"),
        ("DOSSIER_WEBHOOKS_PER_RUN", "many", "write a whole number from 0 to 1000000"),
        ("HEALTH_REFRESH_INTERVAL_MINUTES", "0", "write a whole number from 1 to 720, such as 15"),
        ("HEALTH_REFRESH_INTERVAL_MINUTES", "721", "write a whole number from 1 to 720"),
        ("HEALTH_REFRESH_INTERVAL_MINUTES", "quarter", "write a whole number from 1 to 720"),
    ],
)
def test_an_impossible_value_is_refused_by_name_with_what_is_possible(name: str, value: str, advice: str) -> None:
    with pytest.raises(SettingError) as caught:
        read_settings({name: value})
    assert str(caught.value).startswith(f"{name} is {value!r}")
    assert advice in str(caught.value)


@pytest.mark.parametrize("name", ["HEALTH_REFRESH_INTERVAL_MINUTES", "DOSSIER_LOAD_INTERVAL_MINUTES"])
@pytest.mark.parametrize("minutes", ["7", "25", "45", "59", "61", "90", "300", "420", "540", "660"])
def test_an_interval_that_cron_cannot_count_is_refused(minutes: str, name: str) -> None:
    with pytest.raises(SettingError, match=rf"^{name} is {minutes}; write a divisor of 60"):
        read_settings({name: minutes})


@pytest.mark.parametrize("minutes", [1, 2, 5, 15, 20, 30, 60, 120, 180, 240, 360, 480, 720])
def test_a_refresh_interval_is_a_part_of_the_hour_or_of_the_day(minutes: int) -> None:
    assert read_settings({"HEALTH_REFRESH_INTERVAL_MINUTES": f" {minutes} "}).refresh_interval_minutes == minutes


@pytest.mark.parametrize(
    "value", ["operator", "a@b@c", "Operator <a@b.example>", "a@b.example; c@d.example", "a b@c.example"]
)
def test_a_recipient_that_is_no_address_is_refused_by_name(value: str) -> None:
    with pytest.raises(SettingError, match=r"^DOSSIER_OPERATIONS_RECIPIENTS holds .*which is no mail address"):
        read_settings({"DOSSIER_OPERATIONS_RECIPIENTS": value})


@pytest.mark.parametrize(("encryption", "port"), [("", 587), ("starttls", 587), ("implicit", 465), ("none", 25)])
def test_a_mail_server_has_the_port_of_its_encryption_unless_named(encryption: str, port: int) -> None:
    server = {"DOSSIER_SMTP_HOST": "mail.example", "DOSSIER_SMTP_ENCRYPTION": encryption}
    assert read_settings(server).smtp == SmtpSettings(
        host="mail.example", port=port, encryption=encryption or "starttls"
    )
    named = read_settings({**server, "DOSSIER_SMTP_PORT": "1025"}).smtp
    assert named is not None
    assert named.port == 1025


def test_without_a_host_there_is_no_mail_server_whatever_else_is_set() -> None:
    assert read_settings({"DOSSIER_SMTP_PASSWORD": "x", "DOSSIER_SMTP_PORT": "nonsense"}).smtp is None


@pytest.mark.parametrize(
    ("environ", "complaint"),
    [
        ({"DOSSIER_SMTP_PORT": "0"}, "DOSSIER_SMTP_PORT is '0'; write a whole number from 1 to 65535"),
        ({"DOSSIER_SMTP_PORT": "65536"}, "DOSSIER_SMTP_PORT is '65536'; write a whole number from 1 to 65535"),
        (
            {"DOSSIER_SMTP_ENCRYPTION": "ssl"},
            "DOSSIER_SMTP_ENCRYPTION is 'ssl'; write one of starttls, implicit, none.",
        ),
        (
            {"DOSSIER_SMTP_ENCRYPTION": "none", "DOSSIER_SMTP_USERNAME": "desk"},
            "DOSSIER_SMTP_USERNAME is set and DOSSIER_SMTP_ENCRYPTION is none: the password would travel in the clear.",
        ),
        ({"DOSSIER_WEBHOOK_URL": "ftp://x"}, "DOSSIER_WEBHOOK_URL must begin with https:// (or http://)."),
        ({"DOSSIER_WEBHOOK_URL": "https://x"}, "DOSSIER_WEBHOOK_URL is set without DOSSIER_WEBHOOK_SECRET"),
    ],
)
def test_a_receiver_that_cannot_be_reached_safely_is_refused_by_name(environ: dict[str, str], complaint: str) -> None:
    with pytest.raises(SettingError) as caught:
        read_settings({"DOSSIER_SMTP_HOST": "mail.example", **environ})
    assert str(caught.value).startswith(complaint)


def test_a_webhook_is_a_channel_only_when_there_is_one() -> None:
    assert read_settings({"DOSSIER_WEBHOOK_SECRET": "whsec_c2VjcmV0"}).channels == ("in_app", "email")
    receiver = {"DOSSIER_WEBHOOK_URL": "https://x", "DOSSIER_WEBHOOK_SECRET": "whsec_c2VjcmV0"}
    assert read_settings(receiver).channels == ("in_app", "email", "webhook")


WHATSAPP = {
    "DOSSIER_WHATSAPP_PHONE_NUMBER_ID": "1065",
    "DOSSIER_WHATSAPP_TOKEN": "EAAtoken",
    "DOSSIER_WHATSAPP_TEMPLATES": "hearing_reminder=hearing_v1",
}


def test_whatsapp_is_a_channel_for_those_who_name_it_only_when_there_is_a_number() -> None:
    assert read_settings({**WHATSAPP, "DOSSIER_WHATSAPP_PHONE_NUMBER_ID": ""}) == Settings()
    settings = read_settings(WHATSAPP)
    assert settings.channels == ("in_app", "email")
    assert settings.channels_on_request == ("whatsapp",)
    assert Settings().channels_on_request == ()


@pytest.mark.parametrize(
    ("environ", "complaint"),
    [
        ({"DOSSIER_WHATSAPP_PHONE_NUMBER_ID": "+966500000000"}, "DOSSIER_WHATSAPP_PHONE_NUMBER_ID is '+966500000000'"),
        ({"DOSSIER_WHATSAPP_TOKEN": ""}, "DOSSIER_WHATSAPP_PHONE_NUMBER_ID is set without DOSSIER_WHATSAPP_TOKEN"),
        ({"DOSSIER_WHATSAPP_TOKEN": "s3cret\r\nx: y"}, "DOSSIER_WHATSAPP_PHONE_NUMBER_ID is set without"),
        ({"DOSSIER_WHATSAPP_TEMPLATES": ""}, "DOSSIER_WHATSAPP_TEMPLATES is ''; write kind=template"),
        ({"DOSSIER_WHATSAPP_TEMPLATES": "hearing_v1"}, "DOSSIER_WHATSAPP_TEMPLATES is 'hearing_v1'"),
        ({"DOSSIER_WHATSAPP_TEMPLATES": "a=b, a=c"}, "DOSSIER_WHATSAPP_TEMPLATES is 'a=b, a=c'"),
        ({"DOSSIER_WHATSAPP_TEMPLATES": "a=b, Ä=c"}, "DOSSIER_WHATSAPP_TEMPLATES is 'a=b, Ä=c'"),
        ({"DOSSIER_WHATSAPP_URL": "graph.facebook.com"}, "DOSSIER_WHATSAPP_URL is 'graph.facebook.com'"),
        ({"DOSSIER_WHATSAPP_URL": "http://graph.example"}, "DOSSIER_WHATSAPP_URL is 'http://graph.example'"),
        ({"DOSSIER_WHATSAPP_URL": "http://localhost.evil.example"}, "DOSSIER_WHATSAPP_URL is"),
        ({"DOSSIER_WHATSAPP_URL": "https:///"}, "DOSSIER_WHATSAPP_URL is"),
    ],
)
def test_a_whatsapp_number_that_could_not_send_safely_is_refused_by_name(
    environ: dict[str, str], complaint: str
) -> None:
    with pytest.raises(SettingError) as caught:
        read_settings({**WHATSAPP, **environ})
    assert str(caught.value).startswith(complaint)
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    ["desk.example", "javascript:alert(1)", "https://", "https:///x", 'https://x"y', "https://x y", "https://x?y"],
)
def test_an_address_of_the_application_that_no_link_can_begin_with_is_refused(url: str) -> None:
    with pytest.raises(SettingError, match=r"^DOSSIER_APP_URL is "):
        read_settings({"DOSSIER_APP_URL": url})


@pytest.mark.parametrize("name", ["DOSSIER_MAILS_PER_RUN", "DOSSIER_WEBHOOKS_PER_RUN", "DOSSIER_WHATSAPPS_PER_RUN"])
def test_a_limit_of_none_a_run_is_no_limit(name: str) -> None:
    assert read_settings({name: "0"}) == Settings()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DOSSIER_SOURCE_API_KEY", "s3cret"),
        ("DOSSIER_SMTP_PASSWORD", "s3cret"),
        ("DOSSIER_WEBHOOK_SECRET", "whsec_s3cret=="),
        ("DOSSIER_WHATSAPP_TOKEN", "s3cret"),
        # A URL can hold a password, or be one.
        ("DOSSIER_DATABASE_URL", "postgresql://dossier:s3cret@db.example/dossier"),
        ("DOSSIER_SOURCE", "postgresql://reader:s3cret@crm.example/crm"),
        ("DOSSIER_WEBHOOK_URL", "https://hooks.example/services/s3cret"),
    ],
)
def test_no_secret_is_shown_when_settings_are(name: str, value: str) -> None:
    others = {
        "DOSSIER_SMTP_HOST": "mail.example",
        "DOSSIER_WEBHOOK_URL": "https://hooks.example",
        "DOSSIER_WEBHOOK_SECRET": "whsec_c2VjcmV0",
        **WHATSAPP,
    }
    settings = read_settings({**others, name: value})
    assert settings != read_settings(others)
    assert "s3cret" not in f"{settings!r} {settings}"


def test_the_example_file_names_every_setting_and_no_other() -> None:
    used = {
        name
        for file in PACKAGE.rglob("*.py")
        for name in re.findall(r"\b(?:DOSSIER|DAGSTER)_[A-Z_]+\b", file.read_text(encoding="utf-8"))
    } | OTHERS
    shown = set(re.findall(r"^# ([A-Z]+_[A-Z_]+)=", EXAMPLE.read_text(encoding="utf-8"), re.MULTILINE))
    # Names of constants in the code, and what Dagster itself documents.
    used -= {"DAGSTER_DATABASE", "DAGSTER_DRIVER", "DAGSTER_HOME"}
    assert used == shown


def test_the_example_file_sets_nothing() -> None:
    lines = EXAMPLE.read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if line and not line.startswith("#")] == []
