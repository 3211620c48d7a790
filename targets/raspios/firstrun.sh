
# The host, the user and the network: on an image with cloud-init, that does it.
if [ -n "$host" ]; then
    echo "$host" >/etc/hostname
    [ -f /etc/hosts ] || printf '127.0.0.1\tlocalhost\n' >/etc/hosts
    sed -i '/^127\.0\.1\.1[[:space:]]/d' /etc/hosts
    printf '127.0.1.1\t%s\n' "$host" >>/etc/hosts
fi
if [ -n "$zone" ] && [ -f "/usr/share/zoneinfo/$zone" ]; then
    ln -sf "/usr/share/zoneinfo/$zone" /etc/localtime
    echo "$zone" >/etc/timezone
fi
if [ -n "$user" ]; then
    first=$(getent passwd 1000 | cut -d : -f 1) || first=
    if [ -z "$first" ]; then
        useradd -m -u 1000 -s /bin/bash "$user"
    elif [ "$first" != "$user" ]; then
        usermod -l "$user" "$first"
        usermod -m -d "/home/$user" "$user"
        ! getent group "$first" >/dev/null || groupmod -n "$user" "$first"
        [ ! -f /etc/sudoers.d/010_pi-nopasswd ] ||
            sed -i "s/^$first /$user /" /etc/sudoers.d/010_pi-nopasswd
    fi
    for group in sudo video gpio i2c; do
        ! getent group $group >/dev/null || usermod -a -G $group "$user"
    done
    [ -z "$password" ] || usermod -p "$password" "$user"
    # Raspberry Pi OS would ask for a user at the first login.
    systemctl disable userconfig.service 2>/dev/null || true
    systemctl enable getty@tty1.service 2>/dev/null || true
fi
if [ -n "$keys" ]; then
    home=$(getent passwd "${user:-1000}" | cut -d : -f 6)
    owner=$(getent passwd "${user:-1000}" | cut -d : -f 3,4)
    mkdir -p "$home/.ssh"
    printf '%s\n' "$keys" >"$home/.ssh/authorized_keys"
    chmod 700 "$home/.ssh"
    chmod 600 "$home/.ssh/authorized_keys"
    chown -R "$owner" "$home/.ssh"
    mkdir -p /etc/ssh/sshd_config.d
    echo 'PasswordAuthentication no' >/etc/ssh/sshd_config.d/50-kinglet.conf
    systemctl enable ssh.service
fi
if [ -n "$ssid_bytes" ]; then
    if [ -d /etc/NetworkManager ]; then
        # NetworkManager takes an SSID as a list of bytes, so that none has a meaning of its own.
        mkdir -p /etc/NetworkManager/system-connections
        file=/etc/NetworkManager/system-connections/kinglet.nmconnection
        (
            umask 077
            printf '%s\n' '[connection]' 'id=kinglet' 'type=wifi' '' '[wifi]' 'mode=infrastructure' \
                "ssid=$ssid_bytes" "hidden=$hidden" '' '[wifi-security]' 'key-mgmt=wpa-psk' "psk=$psk" '' \
                '[ipv4]' 'method=auto' '' '[ipv6]' 'method=auto' >$file
        )
    else
        # wpa_supplicant takes an SSID without quotes as hexadecimal digits.
        file=/etc/wpa_supplicant/wpa_supplicant.conf
        (
            umask 077
            mkdir -p /etc/wpa_supplicant
            printf '%s\n' "country=$country" 'ctrl_interface=DIR=/var/run/wpa_supplicant GROUP=netdev' 'update_config=1' \
                'network={' "    ssid=$ssid_hex" '    scan_ssid=1' "    psk=$psk" '}' >$file
        )
    fi
    chmod 600 $file
    # The radio is off until a country is known.
    rfkill unblock wifi 2>/dev/null || true
    for file in /var/lib/systemd/rfkill/*:wlan; do
        [ ! -f "$file" ] || echo 0 >"$file"
    done
fi

# Once: the command line as it was, and no secret left where everybody reads.
sed -i 's| systemd\.run=[^ ]*firstrun\.sh||; s| systemd\.run_success_action=reboot||; s| systemd\.unit=kernel-command-line\.target||' \
    "$boot/cmdline.txt"
rm -f "$boot/firstrun.sh"
sync
