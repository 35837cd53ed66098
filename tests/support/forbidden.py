"""Where requests must never go: addresses, and addresses of pages, each in every spelling that has fooled somebody."""

from __future__ import annotations

FORBIDDEN_ADDRESSES = [
    # IPv4: this network, private, shared, loopback, link-local, special, documentation, multicast, reserved
    "0.0.0.0", "0.0.0.1", "0.255.255.255", "10.0.0.0", "10.0.0.1", "10.1.2.3", "10.255.255.255",
    "100.64.0.1", "100.100.100.200", "100.127.255.255",
    "127.0.0.1", "127.0.0.2", "127.1.2.3", "127.255.255.254",
    "168.63.129.16", "169.254.0.1", "169.254.169.254", "169.254.170.2", "169.254.255.255",
    "172.16.0.1", "172.20.10.1", "172.31.255.255",
    "192.0.0.1", "192.0.0.8", "192.0.0.170", "192.0.0.192", "192.0.2.1", "192.31.196.1", "192.52.193.1",
    "192.88.99.1", "192.168.0.1", "192.168.255.255", "192.175.48.1",
    "198.18.0.1", "198.19.255.255", "198.51.100.7", "203.0.113.9",
    "224.0.0.1", "239.255.255.250", "240.0.0.1", "255.255.255.255",
    # IPv6: unspecified, loopback, link-local, site-local, unique local, multicast, discard, documentation, benchmark
    "::", "::1", "::2", "fe80::1", "fe80::a9fe:a9fe", "febf::1", "fec0::1", "feff::1",
    "fc00::1", "fd00::1", "fd00:ec2::254", "fd20:ce::254", "fdff:ffff::1",
    "ff01::1", "ff02::1", "ff05::2", "ff0e::1", "100::1", "100:0:0:1::1",
    "2001:db8::1", "3fff::1", "3fff:fff::1", "2001:2::1", "2001:10::1", "2001:20::1", "2001:30::1", "2001:1::1",
    "2001:3::1", "2001:4:112::1", "2620:4f:8000::1", "3ffe::1", "5f00::1", "4000::1", "1::1", "8000::1",
    # IPv4 inside IPv6: mapped, compatible, translated, NAT64, 6to4, Teredo, ISATAP
    "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "::ffff:7f00:1", "::ffff:93.184.215.14",
    "::ffff:0:127.0.0.1", "::127.0.0.1", "::10.0.0.1", "::a9fe:a9fe", "::93.184.215.14",
    "64:ff9b::127.0.0.1", "64:ff9b::10.0.0.1", "64:ff9b::a9fe:a9fe", "64:ff9b::5db8:d70e",
    "64:ff9b:1::127.0.0.1", "64:ff9b:1::a00:1", "64:ff9b:1:ffff::a9fe:a9fe",
    "2002:7f00:1::1", "2002:a00:1::", "2002:a9fe:a9fe::", "2002:c0a8:101::1", "2002:5db8:d70e::1",
    "2001::1", "2001:0:7f00:1::", "2001:0:4136:e378:8000:63bf:80ff:fffe",
    "2606:2800::5efe:127.0.0.1", "2606:2800::200:5efe:10.0.0.1", "fe80::5efe:c0a8:101",
]  # fmt: skip

FORBIDDEN_URLS = [
    # other spellings of IPv4: decimal, octal, hexadecimal, short, too long, mixed
    "http://2130706433/", "http://3232235521/", "http://017700000001/", "http://0x7f000001/", "http://0x7F.0.0.1/",
    "http://0177.0.0.1/", "http://127.0.0.01/", "http://127.000.000.001/", "http://0x7f.1/", "http://127.1/",
    "http://127.0.1/", "http://0/", "http://0x0/", "http://10.1/", "http://192.168.257/", "http://127.0.0.1.1/",
    "http://256.256.256.256/", "http://1.1.1.1.0x1/", "http://0x.0x.0x.0x/", "http://127.0.0.0x1/",
    "http://00000000000000000000000000000177.1/", "http://425.510.425.510/", "http://4294967296/", "http://1.1.1.-1/",
    # other spellings of digits and dots
    "http://１２７.0.0.1/", "http://127。0。0。1/", "http://127．0．0．1/", "http://127｡0｡0｡1/", "http://①②⑦.0.0.1/",
    "http://ⓛocalhost/", "http://ｌｏｃａｌｈｏｓｔ/", "http://localhoſt/", "http://shop。example/", "http://shop．example/",
    "http://shop｡example/", "http://𝐬hop.example/", "http://s\u00adhop.example/", "http://sh\u200bop.example/",
    "http://ﬁ.example/", "http://\u212aelvin.example/", "http://shop․example/", "http://xn--a.example/", "http://xn--.com/", "http://-shop.example/", "http://shop-.example/", "http://xn--zzzzzzzzz.example/",
    # trailing and doubled dots
    "http://localhost./", "http://127.0.0.1./", "http://shop.example./", "http://shop..example/", "http://.shop.example/",
    "http://./", "http://../",
    # names of private networks
    "http://localhost/", "http://LOCALHOST/", "http://foo.localhost/", "http://localhost.localdomain/", "http://redis/",
    "http://postgres/", "http://metadata/", "http://metadata.google.internal/computeMetadata/v1/", "http://a.b.internal/",
    "http://kubernetes.default.svc.cluster.local/", "http://printer.local/", "http://router.lan/", "http://nas.home/",
    "http://nas.home.arpa/", "http://1.0.0.127.in-addr.arpa/", "http://wiki.corp/", "http://wiki.intranet/",
    "http://hidden.onion/",
    # user information, and what is taken for it
    "http://user@shop.example/", "http://user:password@shop.example/", "http://@shop.example/", "http://:@shop.example/",
    "http://shop.example@127.0.0.1/", "http://shop.example:80@127.0.0.1/", "http://127.0.0.1@shop.example/",
    "http://shop.example%40127.0.0.1/", "http://a@b@shop.example/",
    # separators that parsers disagree about
    "http://shop.example\\@127.0.0.1/", "http:\\\\127.0.0.1/", "http:/\\127.0.0.1/", "http://127.0.0.1\\.shop.example/",
    "http://127.0.0.1%2f.shop.example/", "http://shop.example%2f@127.0.0.1/", "http://127.0.0.1%00.shop.example/",
    "http://127.0.0.1%23.shop.example/", "http://%31%32%37.0.0.1/", "http://shop.example%20/", "http://shop.example /",
    "http://shop.example\t/", "http://shop.example\n/", "http://shop.example/\r\nHost: x", "http://\x00shop.example/",
    "http://shop.example/\x00", "http://shop.example/\u2028", " http://shop.example/", "http://shop.example/ ",
    "http://127.0.0.1;shop.example/", "http://127.0.0.1,shop.example/", "http://shop.example&@127.0.0.1/",
    "http:127.0.0.1/", "http:/127.0.0.1/", "http:///127.0.0.1/", "http://?127.0.0.1/", "http://#127.0.0.1/",
    "//shop.example/", "/etc/passwd", "shop.example", "", "http://", "http:", "://shop.example/",
    "http://$(hostname).example/", "http://shop_.example{}/", "http://*.shop.example/", "http://shop!.example/",
    # brackets and zones
    "http://[::1]/", "http://[::1]:80/", "http://[::]/", "http://[0:0:0:0:0:0:0:1]/", "http://[0000::0001]/",
    "http://[::1%25lo]/", "http://[fe80::1%eth0]/", "http://[fe80::1%25eth0]/", "http://[2606:2800::1%25eth0]/",
    "http://[::ffff:127.0.0.1]/", "http://[::FFFF:7F00:1]/", "http://[::ffff:0x7f000001]/", "http://[127.0.0.1]/",
    "http://[::1/", "http://::1/", "http://[::1]shop.example/", "http://shop.example[::1]/", "http://[]/", "http://[::g]/",
    "http://[v1.abc]/", "http://[64:ff9b::7f00:1]/", "http://[2002:7f00:1::]/", "http://[::127.0.0.1]/",
    # ports
    "http://shop.example:22/", "http://shop.example:25/", "http://shop.example:0/", "http://shop.example:53/",
    "http://shop.example:3306/", "http://shop.example:5432/", "http://shop.example:6379/", "http://shop.example:9200/",
    "http://shop.example:11211/", "http://shop.example:27017/", "http://shop.example:65536/", "http://shop.example:65616/",
    "http://shop.example:-80/", "http://shop.example:+80/", "http://shop.example:８０/", "http://shop.example:80:80/",
    "http://shop.example:0x50/", "http://shop.example:80a/", "http://shop.example:/@127.0.0.1:80:x/",
    "http://shop.example: 80/", "http://shop.example:2375/", "http://shop.example:10250/",
    # schemes
    "ftp://shop.example/", "file:///etc/passwd", "file://shop.example/", "gopher://shop.example/_x", "dict://shop.example:80/",
    "ldap://shop.example/", "javascript:alert(1)", "data:text/html,x", "blob:https://shop.example/x", "ws://shop.example/",
    "wss://shop.example/", "httpx://shop.example/", "jar:http://shop.example/!/", "unix:///var/run/docker.sock",
    "http+unix://%2Fvar%2Frun%2Fdocker.sock/", "view-source:http://shop.example/", "h\u0442tp://shop.example/",
    "http\uff1a//shop.example/", "url:http://shop.example/",
    # lengths
    "http://" + "a" * 64 + ".example/", "http://" + "a." * 130 + "example/", "http://shop.example/" + "a" * 5000,
    "http://" + "ü" * 60 + "." + "ü" * 60 + "." + "ü" * 60 + "." + "ü" * 60 + ".example/",
]  # fmt: skip
