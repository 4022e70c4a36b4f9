from __future__ import annotations

import json

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from django.db import connection
from django.utils import timezone

from keys import keyring, provider_keys
from keys.errors import Unusable
from keys.models import Cooldown, ProviderKey
from tests.support.clouds import key_of, pem
from tests.support.issued import SECRET, make_provider_key
from tests.support.owner import own_secrets as own_secrets

pytestmark = pytest.mark.django_db


def make_main(**terms):
    return make_provider_key("main", **({"provider": "anthropic", "secret": SECRET} | terms))


def test_its_secret_is_stored_encrypted():
    main = make_main()
    with connection.cursor() as cursor:
        cursor.execute("SELECT keys_providerkey::text, secret_ciphertext FROM keys_providerkey")
        row, ciphertext = cursor.fetchone()
    assert SECRET not in row
    assert SECRET.encode() not in bytes(ciphertext)
    assert keyring.decrypt(ciphertext) == SECRET
    assert main.secret_hint == SECRET[-4:]


@pytest.mark.parametrize(
    ("url", "stored"),
    [
        ("", ""),
        ("https://api.example.com/", "https://api.example.com"),
        ("http://127.0.0.1:9000", "http://127.0.0.1:9000"),
        ("http://[::1]:9000/anthropic//", "http://[::1]:9000/anthropic"),
    ],
)
def test_it_keeps_a_base_url_without_its_last_slash(url, stored):
    assert make_main(base_url=url).base_url == stored


@pytest.mark.parametrize(
    "url",
    [
        "example.com",
        "ftp://example.com",
        "https://",
        "https://example.com:port",
        "https://example.com:0",
        "https://alice:pass@example.com",
        "https://example.com/?a=b",
        "https://example.com/#a",
        "https://example.com/?",
        "https://example.com/v1",
        "https://example.com/v1/messages/",
        "https://exa mple.com",
        "https://example.com/\n",
        "https://example.com/\x00",
        "https://[::1",
        "https://bücher.example",
        "https://example.com/" + "a" * 500,
    ],
)
def test_it_refuses_a_bad_base_url(url):
    if url.endswith("\n"):
        url += "x"
    with pytest.raises(Unusable, match="URL"):
        make_main(base_url=url)
    assert not ProviderKey.objects.exists()


@pytest.mark.parametrize("url", ["https://a.openai.azure.com?api-version=2024-10-21", "https://a/x?api-version=v1"])
def test_an_openai_compatible_address_may_have_azures_version(url):
    assert make_main(provider="openai", base_url=url).base_url == url
    with pytest.raises(Unusable, match="query"):
        provider_keys.check_base_url(url, "anthropic")


@pytest.mark.parametrize(
    "url",
    [
        "https://example.com/v1/chat/completions",
        "https://example.com/v1/chat/completions/?api-version=v1",
        "https://example.com/v1?key=secret",
        "https://example.com/v1?api-version=v1&key=secret",
        "https://example.com/v1?api-version=v1#a",
        "https://example.com/v1?",
    ],
)
def test_an_openai_compatible_address_has_nothing_else_at_its_end(url):
    with pytest.raises(Unusable, match="base URL"):
        make_main(provider="openai", base_url=url)


def test_another_protocol_may_have_its_version_in_the_base_url():
    assert make_main(provider="openai", base_url="https://example.com/v1/").base_url == "https://example.com/v1"


@pytest.mark.parametrize(
    ("terms", "complaint"),
    [
        ({"provider": "nobody"}, "choose anthropic"),
        ({"secret": ""}, "missing"),
        ({"secret": "two words"}, "spaces"),
        ({"secret": "two\nlines"}, "line breaks"),
        ({"secret": "ünïcode"}, "other characters"),
        ({"model_patterns": ["a b"]}, "pattern"),
        ({"provider": "azure"}, "base URL is missing"),
        ({"provider": "echo", "base_url": "http://x"}, "takes no base URL"),
        ({"provider": "vertex", "secret": "a\0"}, "print"),
    ],
)
def test_it_refuses_an_address_that_can_not_be_called(terms, complaint):
    with pytest.raises(Unusable, match=complaint) as refusal:
        make_main(**terms)
    assert not terms.get("secret") or terms["secret"] not in str(refusal.value)


RSA = rsa.generate_private_key(65537, 2048)
ANOTHER = rsa.generate_private_key(65537, 2048)
BY_CERTIFICATE = {"tenant_id": "t", "client_id": "c"}
ENTRA = {"tenant_id": "t", "client_id": "c", "client_secret": "a-client-secret"}
ROLE = "arn:aws:iam::123456789012:role/gateway"
PAIR = {"access_key_id": "a", "secret_access_key": "a-secret-access-key"}
ACCOUNT = {"type": "service_account", "client_email": "a@b", "private_key": "no-key", "token_uri": "https://x"}

FEDERATED = {
    "type": "external_account",
    "audience": "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/p/providers/q",
    "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
    "token_url": "https://sts.googleapis.com/v1/token",
    "credential_source": {"file": "/run/a-token"},
}
IMPERSONATED = {
    "type": "impersonated_service_account",
    "service_account_impersonation_url": "https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/a@b:generateAccessToken",
    "source_credentials": {"type": "authorized_user"},
}


@pytest.mark.parametrize(
    ("provider", "secret", "complaint"),
    [
        ("azure", ENTRA | {"client_secret": ""}, "must be a non-empty ASCII string"),
        ("azure", {"tenant_id": "t"}, "lacks client_id and client_secret"),
        ("azure", ENTRA | {"clientsecret": "x"}, "may contain only"),
        ("azure", ENTRA | {"certificate": "x"}, "may contain only"),
        ("azure", BY_CERTIFICATE | {"certificate": 5}, "must be a non-empty ASCII string"),
        ("azure", BY_CERTIFICATE | {"certificate": "no-key"}, "must be a PEM with its private key"),
        ("azure", BY_CERTIFICATE | {"certificate": pem(RSA, with_key=False)}, "must be a PEM with its private key"),
        ("azure", BY_CERTIFICATE | {"certificate": pem(ec.generate_private_key(ec.SECP256R1()))}, "no RSA key"),
        (
            "azure",
            BY_CERTIFICATE | {"certificate": pem(RSA, with_key=False) + key_of(ANOTHER)},
            "belong to its first certificate",
        ),
        ("azure", {"identity": "machine", "tenant_id": "t"}, "may contain only client_id, identity"),
        ("azure", {"identity": "machine", "client_id": ""}, "must be a non-empty ASCII string"),
        ("bedrock", {"access_key_id": "a"}, "lacks secret_access_key"),
        ("bedrock", PAIR | {"region": "x"}, "may contain only"),
        ("bedrock", "{", "not a JSON object"),
        ("bedrock", {"role_arn": ROLE}, "without an access key or"),
        ("bedrock", PAIR | {"role_arn": "gateway"}, "role_arn has a form"),
        ("bedrock", PAIR | {"role_arn": ROLE + "\n"}, "role_arn has a form"),
        ("bedrock", PAIR | {"role_arn": ROLE, "session_name": "two words"}, "session_name has a form"),
        ("bedrock", PAIR | {"external_id": "outside"}, "without a role_arn"),
        ("bedrock", PAIR | {"identity": "machine"}, "may contain only"),
        ("bedrock", {"identity": "mine"}, "the only one is"),
        ("bedrock", "two words", "spaces"),
        ("vertex", "an-api-key", "not a JSON object"),
        ("vertex", ACCOUNT | {"type": "gdch_service_account"}, "its type must be one of service_account, external"),
        ("vertex", ACCOUNT | {"type": ["service_account"]}, "its type must be one of"),
        ("vertex", {"type": "authorized_user", "client_id": "c"}, "without client_secret and refresh_token"),
        ("vertex", FEDERATED | {"credential_source": None}, "without credential_source"),
        ("vertex", FEDERATED | {"credential_source": {}}, "Google's own library can't read"),
        ("vertex", FEDERATED | {"credential_source": {"executable": {"command": "x"}}}, "the gateway runs none"),
        ("vertex", FEDERATED | {"credential_source": {"certificate": {}}}, "a certificate: it must be"),
        (
            "vertex",
            FEDERATED | {"token_url": "https://googleapis.com.evil.example/"},
            "token_url must be an address of Google's",
        ),
        ("vertex", FEDERATED | {"token_url": "https://sts.storage.googleapis.com/"}, "token_url must be an address"),
        ("vertex", FEDERATED | {"token_url": "https://[sts.googleapis.com/"}, "token_url can't be read"),
        ("vertex", FEDERATED | {"token_url": "http://sts.googleapis.com/"}, "token_url must be an address of Google's"),
        (
            "vertex",
            FEDERATED | {"service_account_impersonation_url": "https://evil.example"},
            "must be an address of Google's",
        ),
        ("vertex", IMPERSONATED, "without client_id and client_secret and refresh_token"),
        ("vertex", IMPERSONATED | {"source_credentials": FEDERATED}, "one of service_account, authorized_user"),
        ("vertex", {"identity": "machine", "type": "service_account"}, "may contain only identity"),
        ("vertex", {"type": "service_account"}, "without client_email and private_key and token_uri"),
        ("vertex", ACCOUNT, "private key can't be read"),
    ],
)
def test_it_refuses_a_secret_of_another_form_and_does_not_quote_it(provider, secret, complaint):
    plain = secret if isinstance(secret, str) else json.dumps(secret)
    with pytest.raises(Unusable, match=complaint) as refusal:
        make_main(provider=provider, base_url="https://x.example", secret=plain)
    assert not {"a-client-secret", "a-secret-access-key", "no-key"} & set(str(refusal.value).split())


@pytest.mark.parametrize(
    "host", ["sts", "us-east1.sts", "us-east1-sts", "sts.us-east1.rep", "sts-private.p", "iamcredentials"]
)
def test_a_federated_identity_may_be_taken_to_any_of_googles_places_for_it(host):
    secret = json.dumps(FEDERATED | {"token_url": f"https://{host}.googleapis.com/v1/token"})
    assert make_main(provider="vertex", region="eu", project="the-project", secret=secret).project == "the-project"


@pytest.mark.parametrize("provider", ["bedrock", "vertex"])
def test_the_machines_identity_is_a_secret_that_says_so(provider):
    place = {"region": "eu-central-1"} | ({"project": "the-project"} if provider == "vertex" else {})
    assert make_main(provider=provider, secret='{"identity": "machine"}', **place).secret_hint == ""


def test_a_secret_that_is_an_object_has_no_hint():
    main = make_main(provider="bedrock", region="eu-central-1", secret=json.dumps(PAIR))
    assert main.secret_hint == ""


@pytest.mark.parametrize(
    ("terms", "complaint"),
    [
        ({"provider": "bedrock"}, "the region is missing"),
        ({"provider": "bedrock", "region": "eu.evil.example/"}, "the region contains characters"),
        ({"provider": "bedrock", "region": "eu-central-1", "project": "p1"}, "bedrock takes no project"),
        ({"provider": "anthropic", "region": "eu-central-1"}, "anthropic takes no region"),
    ],
)
def test_it_refuses_a_place_that_cannot_be_called(terms, complaint):
    with pytest.raises(Unusable, match=complaint):
        make_main(**terms)


def test_another_place_ends_cool_downs():
    main = make_main(provider="bedrock", region="eu-central-1")
    now = timezone.now()
    Cooldown.objects.create(provider_key=main, reason="failing", since=now, until=now)
    main.region = "eu-west-1"
    provider_keys.save(main)
    assert not Cooldown.objects.exists()


def test_it_refuses_a_name_that_is_taken():
    make_main()
    with pytest.raises(Unusable, match="already"):
        make_main()


def test_echo_needs_no_secret():
    assert make_provider_key().secret_ciphertext == b""


def test_a_short_secret_has_no_hint():
    assert make_main(secret="short").secret_hint == ""


def test_a_secret_is_replaced_and_otherwise_kept():
    main = make_main()
    main.model_patterns = ["claude-*"]
    provider_keys.save(main)
    assert keyring.decrypt(ProviderKey.objects.get().secret_ciphertext) == SECRET
    provider_keys.set_secret(main, "sk-ant-another-secret-9z9z")
    assert keyring.decrypt(ProviderKey.objects.get().secret_ciphertext) == "sk-ant-another-secret-9z9z"


def test_a_stored_secret_does_not_follow_to_another_address():
    main = make_main()
    main.base_url = "https://elsewhere.example"
    with pytest.raises(Unusable, match="type the secret again"):
        provider_keys.save(main)
    provider_keys.save(main, SECRET)
    assert ProviderKey.objects.get().base_url == "https://elsewhere.example"


def test_a_new_master_key_takes_over_every_secret(tmp_path):
    make_main()
    make_provider_key()
    file, count = provider_keys.rotate_master_key()
    assert count == 1
    newest, oldest = file.read_text().split()
    file.write_text(f"{newest}\n")
    assert keyring.decrypt(ProviderKey.objects.get(name="main").secret_ciphertext) == SECRET
    file.write_text(f"{oldest}\n")
    with pytest.raises(keyring.UnreadableSecret):
        keyring.decrypt(ProviderKey.objects.get(name="main").secret_ciphertext)


def test_a_rotation_that_cannot_read_a_secret_changes_nothing(tmp_path):
    make_main()
    file = tmp_path / "secrets" / "master_keys"
    file.unlink()
    keyring.encrypt("makes another")
    before = file.read_text(), bytes(ProviderKey.objects.get().secret_ciphertext)
    with pytest.raises(Unusable, match="“main”"):
        provider_keys.rotate_master_key()
    assert (file.read_text(), bytes(ProviderKey.objects.get().secret_ciphertext)) == before


MACHINE = '{"identity": "machine"}'


@pytest.mark.parametrize(
    ("provider", "url"),
    [
        ("azure", "https://res.services.ai.azure.com/anthropic"),
        ("azure", "https://res-2.cognitiveservices.azure.us"),
        ("azure", "http://127.0.0.1:9000"),
        ("vertex", ""),
        ("vertex", "https://europe-west1-aiplatform.googleapis.com"),
        ("vertex", "https://aiplatform-psc.p.googleapis.com"),
    ],
)
def test_the_machines_identity_goes_to_its_cloud(provider, url):
    place = {"region": "europe-west1", "project": "the-project"} if provider == "vertex" else {}
    assert make_main(provider=provider, base_url=url, secret=MACHINE, **place).base_url == url


@pytest.mark.parametrize(
    ("provider", "url"),
    [
        ("azure", "https://example.com/anthropic"),
        ("azure", "http://res.services.ai.azure.com"),
        ("azure", "https://mine.eastus.cloudapp.azure.com"),
        ("azure", "https://res.services.ai.azure.com.example.com"),
        ("vertex", "https://storage.googleapis.com"),
        ("vertex", "https://aiplatform.googleapis.com.example.com"),
        ("vertex", "http://aiplatform.googleapis.com"),
    ],
)
def test_the_machines_identity_goes_nowhere_else(provider, url):
    place = {"region": "europe-west1", "project": "the-project"} if provider == "vertex" else {}
    with pytest.raises(Unusable, match="the cloud's own addresses"):
        make_main(provider=provider, base_url=url, secret=MACHINE, **place)
    assert not ProviderKey.objects.exists()
    if provider == "azure":
        # Nor by another way round.
        made = make_main(provider=provider, base_url=url, secret="an-api-key-0123456789")
        with pytest.raises(Unusable, match="the cloud's own addresses"):
            provider_keys.set_secret(made, MACHINE)
