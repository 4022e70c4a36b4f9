"""Django's settings, from the deployment's configuration. Reads top to bottom."""

from __future__ import annotations

import sys
from pathlib import Path

from gateway_project import database, page_socket
from gateway_project.configuration import BASE_DIR, WrongConfiguration, configuration
from keys import secret_files

try:
    CONFIGURATION = configuration()
    VAR_DIR = CONFIGURATION.var_dir.resolve()
    SECRET_KEY = CONFIGURATION.secret_key or secret_files.secret_key(VAR_DIR)
except (WrongConfiguration, secret_files.EmptySecretFile) as error:
    print(error, file=sys.stderr)
    sys.exit(2)

DEBUG = CONFIGURATION.debug
ALLOWED_HOSTS = CONFIGURATION.allowed_hosts
CSRF_TRUSTED_ORIGINS = CONFIGURATION.trusted_origins

INSTALLED_APPS = [
    "administration.apps.SiteConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django.contrib.postgres",
    "rest_framework",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "keys",
    "usage",
    "reconciliation",
    "messages_api",
    "billing",
    "gateway_project.operations",
    "administration",
]
# The packages of sign-in, before the administration, which removes their pages of tables. A web process that serves no
# pages loads none of them.
if page_socket.serves_pages_here():
    INSTALLED_APPS[-1:-1] = ["allauth.account", "allauth.mfa", "allauth.socialaccount", "allauth.usersessions"]

# For pages only: requests to the API (see messages_api.server.handler) and for static files skip this middleware.
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "gateway_project.content_security.ContentSecurityPolicyMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "gateway_project.sessions.KnownVisitorMiddleware",
    "keys.audit.middleware.middleware",
    "administration.demo_pages.Middleware",
    "administration.viewers.Middleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "keys.sign_in.Middleware",
    "administration.error_pages.WrongMethodMiddleware",
]
if page_socket.serves_pages_here():
    MIDDLEWARE += [
        "allauth.account.middleware.AccountMiddleware",
        "administration.sign_in.middleware.RecordedSessionMiddleware",
        "administration.sign_in.middleware.ReauthenticationMiddleware",
        "administration.sign_in.middleware.SecondFactorMiddleware",
    ]

ROOT_URLCONF = "gateway_project.urls"
CSRF_FAILURE_VIEW = "administration.error_pages.untrusted_form"
ASGI_APPLICATION = "gateway_project.asgi.application"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "administration.demo_pages.context",
            ],
        },
    },
]

DATABASES = {"default": database.settings(CONFIGURATION.database_url, VAR_DIR)}

# The first signs in, and knows permissions that were given by hand. The second knows roles.
AUTHENTICATION_BACKENDS = [
    "django.contrib.auth.backends.ModelBackend",
    "administration.roles.backend.RolesBackend",
]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 12}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]
PASSWORD_HASHERS = ["keys.sign_in.Hasher"]
LOGIN_URL = "admin:login"
LOGIN_REDIRECT_URL = "admin:index"

# django-allauth. Only keys/sign_in.py limits attempts, because allauth's limits are counts in a process's memory.
ACCOUNT_ADAPTER = "administration.sign_in.adapters.AccountAdapter"
ACCOUNT_RATE_LIMITS = MFA_RATE_LIMITS = False
ACCOUNT_SIGNUP_ENABLED = False
ACCOUNT_SIGNUP_FIELDS = ["username*", "password1*", "password2*"]
ACCOUNT_EMAIL_VERIFICATION = "none"
ACCOUNT_REAUTHENTICATION_METHODS = ["password", "mfa", "socialaccount"]
MFA_ADAPTER = "administration.sign_in.adapters.SecondFactorAdapter"
MFA_SUPPORTED_TYPES = ["totp", "webauthn", "recovery_codes"]
MFA_PASSKEY_LOGIN_ENABLED = True
MFA_ALLOW_UNVERIFIED_EMAIL = True
MFA_RECOVERY_CODES_SHOW_ONCE = True
MFA_TOTP_TOLERANCE = 1
MFA_FORMS = {
    "authenticate": "administration.sign_in.forms.CodeForm",
    "reauthenticate": "administration.sign_in.forms.CodeAgainForm",
    "activate_totp": "administration.sign_in.forms.AppForm",
    "add_webauthn": "administration.sign_in.passkey_forms.NewPasskeyForm",
    "edit_webauthn": "administration.sign_in.passkey_forms.PasskeyNameForm",
    "authenticate_webauthn": "administration.sign_in.passkey_forms.PasskeyForm",
    "reauthenticate_webauthn": "administration.sign_in.passkey_forms.PasskeyAgainForm",
    "login_webauthn": "administration.sign_in.passkey_forms.PasskeyAloneForm",
}

LANGUAGE_CODE = "en-gb"
USE_I18N = True
USE_TZ = True
TIME_ZONE = "UTC"
TIME_ZONE_COOKIE_NAME = "time_zone"
MEMBER_COOKIE_NAME = "member"
FORMAT_MODULE_PATH = ["gateway_project.formats"]

STATIC_URL = "/static/"
STATIC_ROOT = VAR_DIR / "static"
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "gateway_project.static_files.Storage"},
}
SERVESTATIC_KEEP_ONLY_HASHED_FILES = True
SERVESTATIC_ALLOW_ALL_ORIGINS = False

# A flash message may be about a key: in the session on the server, never in a cookie.
MESSAGE_STORAGE = "django.contrib.messages.storage.session.SessionStorage"
SESSION_ENGINE = "gateway_project.sessions"
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_AGE = round(CONFIGURATION.session_hours * 3600)
SECURE_CONTENT_TYPE_NOSNIFF = True
X_FRAME_OPTIONS = "DENY"
# Pages load scripts and styles only from the gateway's own files. Swagger UI's icons are in its style sheet.
SECURE_CSP = {
    "default-src": ["'self'"],
    "img-src": ["'self'", "data:"],
    "object-src": ["'none'"],
    "base-uri": ["'none'"],
    "form-action": ["'self'"],
    "frame-ancestors": ["'none'"],
}
# The whole body of a request for a page is in memory, including uploads.
DATA_UPLOAD_MAX_MEMORY_SIZE = FILE_UPLOAD_MAX_MEMORY_SIZE = CONFIGURATION.max_page_bytes
if CONFIGURATION.tls_in_front:
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
    SESSION_COOKIE_SECURE = True
    CSRF_COOKIE_SECURE = True
    # A browser accepts cookies of these names only from this host itself, over TLS.
    SESSION_COOKIE_NAME = "__Host-sessionid"
    CSRF_COOKIE_NAME = "__Host-csrftoken"
    TIME_ZONE_COOKIE_NAME = "__Host-time_zone"
    MEMBER_COOKIE_NAME = "__Host-member"
    SECURE_SSL_REDIRECT = True
    SECURE_HSTS_SECONDS = 31_536_000

REST_FRAMEWORK = {
    "UNAUTHENTICATED_USER": None,
    "UNAUTHENTICATED_TOKEN": None,
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
}

EMAIL_HOST = CONFIGURATION.email_host
EMAIL_PORT = CONFIGURATION.email_port
EMAIL_USE_TLS = CONFIGURATION.email_security == "starttls"
EMAIL_USE_SSL = CONFIGURATION.email_security == "tls"
EMAIL_HOST_USER = CONFIGURATION.email_user
EMAIL_HOST_PASSWORD = CONFIGURATION.email_password
EMAIL_FROM = CONFIGURATION.email_from
EMAIL_TIMEOUT = 10

# Celery only sweeps tables: a message that is lost loses nothing.
BROKER_DIR = VAR_DIR / "broker"
CELERY_BROKER_URL = CONFIGURATION.celery_broker_url or "filesystem://localhost//"
if CELERY_BROKER_URL.startswith("filesystem"):
    CELERY_BROKER_TRANSPORT_OPTIONS = {
        "data_folder_in": str(BROKER_DIR / "queue"),
        "data_folder_out": str(BROKER_DIR / "queue"),
        "processed_folder": str(BROKER_DIR / "processed"),
        "control_folder": str(BROKER_DIR / "control"),
        "store_processed": False,
    }
    # Commands to workers would be files that are never removed.
    CELERY_WORKER_ENABLE_REMOTE_CONTROL = False
    CELERY_BEAT_ENABLE_REMOTE_CONTROL = False
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_ACKS_LATE = True
CELERY_TASK_TIME_LIMIT = 600
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_TIMEZONE = "UTC"
CELERY_WORKER_HIJACK_ROOT_LOGGER = False

SPOOL_DIR = Path(CONFIGURATION.spool_dir or VAR_DIR / "spool")
ARCHIVE_DIR = Path(CONFIGURATION.archive_dir or VAR_DIR / "archive")

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "text": {"()": "gateway_project.logs.LineFormatter"},
        "json": {"()": "gateway_project.logs.JsonFormatter"},
    },
    "filters": {"once": {"()": "gateway_project.logs.OncePerConnection"}},
    "handlers": {
        "console": {"class": "logging.StreamHandler", "formatter": CONFIGURATION.log_format, "filters": ["once"]}
    },
    "root": {"handlers": ["console"], "level": CONFIGURATION.log_level},
    "loggers": {
        "django": {"handlers": [], "level": CONFIGURATION.log_level},
        "uvicorn": {"handlers": [], "level": "WARNING"},
        "celery": {"level": "WARNING"},
        "httpx": {"level": "WARNING"},
        # One line a call is for programs.
        "messages_api.relay.call_log": {"level": "NOTSET" if CONFIGURATION.log_format == "json" else "WARNING"},
    },
}
