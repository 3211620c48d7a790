# What the first boot does: the lines above say with which values. It may run again: everything is set, nothing appended.
set -eu
umask 022
for boot in /boot/firmware /boot; do
    [ ! -f "$boot/kinglet-model.onnx" ] || break
done

# The program, the model, the configuration, the service.
install -D -m 755 "$boot/kinglet" /usr/local/bin/kinglet
install -D -m 644 "$boot/kinglet-model.onnx" /usr/lib/kinglet/model.onnx
[ -f /etc/kinglet/kinglet.toml ] || install -D -m 644 "$boot/kinglet.toml" /etc/kinglet/kinglet.toml
[ ! -f "$boot/kinglet.pub" ] || install -D -m 644 "$boot/kinglet.pub" /etc/kinglet/kinglet.pub
install -D -m 644 "$boot/kinglet.service" /etc/systemd/system/kinglet.service
if [ ! -s /etc/kinglet/token ]; then
    head -c 18 /dev/urandom | base64 | tr '+/' '-_' >/etc/kinglet/token.part
    chmod 640 /etc/kinglet/token.part
    # The service has a user of its own that is in this group.
    chgrp video /etc/kinglet/token.part
    mv /etc/kinglet/token.part /etc/kinglet/token
fi
# Groups that the service wants and a system without cameras, pins or buses may lack.
for group in video gpio i2c; do
    getent group $group >/dev/null || groupadd --system $group
done
systemctl enable kinglet.service
