#!/bin/bash
# Installs the mail servers that bench.py measures beside ours: Debian or Ubuntu, as root. Those that are there
# already are left alone. Postfix comes as a package whose services are not started; Exim conflicts with it, so
# its package is only unpacked.
set -euo pipefail
root=${MAILBENCH:-${TMPDIR:-/tmp}/mailbench}
export DEBIAN_FRONTEND=noninteractive
mkdir -p "$root"/{deb,npm/haraka,npm/smtp-server,venv}

if [ ! -x /usr/sbin/smtp-source ]; then
    if [ ! -e /usr/sbin/policy-rc.d ]; then # packages must not start mail servers here
        printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
        chmod 755 /usr/sbin/policy-rc.d
    fi
    apt-get update -q
    echo 'postfix postfix/main_mailer_type select No configuration' | debconf-set-selections
    apt-get install -y -q --no-install-recommends postfix libidn12 libevent-2.1-7
fi

if [ ! -d "$root/deb/x/exim4-daemon-light" ]; then
    cd "$root/deb"
    apt-get download exim4-daemon-light
    dpkg-deb -x exim4-daemon-light_*.deb x/exim4-daemon-light
fi
getent passwd Debian-exim >/dev/null || useradd -r -d /nonexistent -s /usr/sbin/nologin Debian-exim

if [ ! -d "$root/npm/smtp-server/node_modules/smtp-server" ]; then
    cd "$root/npm/smtp-server"
    echo '{"name": "bench", "version": "1.0.0", "private": true}' >package.json
    npm install --no-audit --no-fund smtp-server
fi
if [ ! -d "$root/npm/haraka/node_modules/Haraka" ]; then
    cd "$root/npm/haraka"
    # Versions that go together with each other, of what Haraka needs.
    echo '{"name": "bench", "version": "1.0.0", "private": true, "overrides":
        {"encoding-japanese": "2.2.0", "libqp": "2.1.1", "libmime": "5.5.2"}}' >package.json
    npm install --no-audit --no-fund Haraka@3.3.4
fi

if [ ! -x "$root/venv/aiosmtpd/bin/python" ]; then
    python3 -m venv "$root/venv/aiosmtpd"
    "$root/venv/aiosmtpd/bin/pip" install -q aiosmtpd
fi
