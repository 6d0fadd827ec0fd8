# SPDX-License-Identifier: LGPL-2.1-or-later
"""Asks for an address, as a guest's DHCP client does, and looks at the answer as it arrives.

    dhcp.py DEVICE MAC

It runs in the guest's network namespace, and prints the address offered, and whether the answer's UDP checksum is
"right" or "wrong".
"""

import socket
import struct
import sys
import time

TRANSACTION = 0x7E57F100
CLIENT, SERVER = 68, 67
SECONDS = 10
MAGIC = b"\x63\x82\x53\x63"
DISCOVER, OFFER = b"\x35\x01\x01", b"\x35\x01\x02"


def checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071)."""
    words = struct.unpack(f"!{(len(data) + 1) // 2}H", data + bytes(len(data) % 2))
    total = sum(words)
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def discover(mac: bytes) -> bytes:
    """The whole frame. The answer comes to this MAC address, since no broadcast is asked for."""
    bootp = struct.pack("!BBBBIHH", 1, 1, 6, 0, TRANSACTION, 0, 0) + bytes(16) + mac + bytes(10 + 64 + 128)
    payload = bootp + MAGIC + DISCOVER + b"\xff"
    udp = struct.pack("!HHHH", CLIENT, SERVER, 8 + len(payload), 0) + payload  # 0: without checksum
    addresses = bytes(4) + b"\xff" * 4
    header = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(udp), 0, 0, 64, socket.IPPROTO_UDP, 0) + addresses
    header = header[:10] + struct.pack("!H", checksum(header)) + header[12:]
    return b"\xff" * 6 + mac + b"\x08\x00" + header + udp


def offer_in(frame: bytes) -> tuple[str, bool] | None:
    """The address that a frame offers to us, and whether the UDP checksum is right."""
    packet = frame[14:]
    if len(packet) < 20 or packet[0] != 0x45 or packet[9] != socket.IPPROTO_UDP:
        return None
    udp = packet[20 : struct.unpack_from("!H", packet, 2)[0]]
    ports = struct.unpack_from("!HH", udp)
    bootp = udp[8:]
    if ports != (SERVER, CLIENT) or struct.unpack_from("!I", bootp, 4)[0] != TRANSACTION or OFFER not in bootp:
        return None
    pseudo = packet[12:20] + struct.pack("!BBH", 0, socket.IPPROTO_UDP, len(udp))
    return socket.inet_ntoa(bootp[16:20]), checksum(pseudo + udp) == 0


def main() -> None:
    device, mac = sys.argv[1], bytes.fromhex(sys.argv[2].replace(":", ""))
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0800)) as raw:
        raw.bind((device, 0x0800))
        raw.settimeout(1)
        deadline = time.monotonic() + SECONDS
        while time.monotonic() < deadline:
            raw.send(discover(mac))
            try:
                while True:
                    if offer := offer_in(raw.recv(2048)):
                        print(offer[0], "right" if offer[1] else "wrong")
                        return
            except TimeoutError:
                pass
    raise SystemExit("no offer came")


if __name__ == "__main__":
    main()
