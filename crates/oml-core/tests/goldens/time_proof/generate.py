"""Write real time stamps and git proofs for oml_core's tests: OpenSSL is the authority, git the repository.

Run in an empty folder beside the committed files: python generate.py   (needs openssl 3 and git 2.29 or later)

  root.txt                     the message: the line of a root and its owner
  trusted.pem, other.pem       the root certificate of every authority here, and one of nobody's
  rsa.tsr … p384.tsr           time stamps by `openssl ts`: RSA and ECDSA keys, SHA-256 to SHA-512, certificate hash of v1 and v2
  bare.tst                     the token of rsa.tsr without the response around it
  between.tsr                  a signer whose certificate an intermediate authority signed
  pss.tst, key_id.tst          tokens by `openssl cms` with the contents of rsa.tsr: RSA-PSS, and a signer named by key identifier
  no_usage.tst, two_usages.tst, not_critical.tst, an_issuer.tst     the same by certificates that may not sign time stamps
  expired.tsr, untimely.tsr    by certificates that had expired, or were not valid yet
  refused.tsr                  an authority that refused
  no_certificate.tsr           asked for without -cert
  sha512.tsr                   stamps the SHA-512 of the message
  sha1.git, sha256.git         git's objects for the line in a/b/root.txt, in repositories of both hashes
  elsewhere.git                the same with a commit of another tree
  claim.tsr, claim.git         for the root of the set in tests/core/bundle.rs
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
OWNER = "0x621c3C8731ca4f23faF67033A024f5482c3D9Cc3"
LINE = f"oml root 0x{'5a' * 32} owner {OWNER}\n"
CLAIM = f"oml root 0x73f0dd8ad7d1b3461a8c926faf1fa3888f71f6ff8bba1c382387013096819f41 owner {OWNER}\n"
CONFIG = """
[ca]
default_ca = ca0
[ca0]
database = index.txt
new_certs_dir = .
serial = serial
default_md = sha256
policy = any
email_in_dn = no
unique_subject = no
copy_extensions = none
[any]
commonName = supplied
[tsa]
default_tsa = tsa0
[tsa0]
serial = tsaserial
default_policy = 1.2.3.4.1
digests = sha256, sha512
signer_digest = sha256
accuracy = secs:1, millisecs:500
ordering = yes
tsa_name = yes
[root]
basicConstraints = critical, CA:true
keyUsage = critical, keyCertSign
subjectKeyIdentifier = hash
[good]
keyUsage = critical, digitalSignature
extendedKeyUsage = critical, timeStamping
subjectKeyIdentifier = hash
[not_critical]
extendedKeyUsage = timeStamping
[two_usages]
extendedKeyUsage = critical, timeStamping, codeSigning
[no_usage]
keyUsage = critical, digitalSignature
[an_issuer]
basicConstraints = critical, CA:true
extendedKeyUsage = critical, timeStamping
"""
EC = ["-algorithm", "EC", "-pkeyopt"]
P256, P384 = [*EC, "ec_paramgen_curve:P-256"], [*EC, "ec_paramgen_curve:P-384"]
RSA = ["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"]
ALWAYS = ("20200101000000Z", "21200101000000Z")


def openssl(*arguments: str) -> None:
    subprocess.run(["openssl", *arguments], check=True, capture_output=True)


def authority(name: str, key: list[str], extensions: str, issuer: str | None, dates: tuple[str, str] = ALWAYS) -> None:
    """A key in NAME.key and its certificate in NAME.crt, signed by the key of `issuer` or by itself."""
    openssl("genpkey", *key, "-out", f"{name}.key")
    openssl("req", "-new", "-key", f"{name}.key", "-subj", f"/CN=OML test {name}", "-out", f"{name}.csr", "-config", "/dev/null")
    signer = ["-selfsign", "-keyfile", f"{name}.key"] if issuer is None else ["-cert", f"{issuer}.crt", "-keyfile", f"{issuer}.key"]
    openssl("ca", "-batch", "-config", "tsa.cnf", "-extensions", extensions, "-in", f"{name}.csr", "-out", f"{name}.crt", "-notext",
            "-startdate", dates[0], "-enddate", dates[1], *signer)


def stamp(out: str, signer: str, *options: str, chain: str | None = None, ask: str = "ask.tsq", config: str = "tsa.cnf") -> None:
    chained = [] if chain is None else ["-chain", f"{chain}.crt"]
    openssl("ts", "-reply", "-config", config, "-queryfile", ask, "-signer", f"{signer}.crt", "-inkey", f"{signer}.key", "-out", out,
            *chained, *options)


def sign(out: str, signer: str, *options: str) -> None:
    """A token by `openssl cms`, which does not ask what the certificate is for."""
    openssl("cms", "-sign", "-binary", "-nodetach", "-cades", "-md", "sha256", "-econtent_type", "1.2.840.113549.1.9.16.1.4",
            "-in", "info.der", "-signer", f"{signer}.crt", "-inkey", f"{signer}.key", "-outform", "DER", "-out", out, *options)


def stamps() -> None:
    Path("tsa.cnf").write_text(CONFIG)
    Path("v2.cnf").write_text(CONFIG.replace("signer_digest = sha256", "signer_digest = sha256\ness_cert_id_alg = sha512"))
    Path("index.txt").touch()
    Path("serial").write_text("1001\n")
    Path("tsaserial").write_text("0a01\n")
    Path("root.txt").write_text(LINE)
    authority("trusted", P256, "root", None)
    authority("other", P256, "root", None)
    authority("middle", P384, "root", "trusted")
    authority("rsa", RSA, "good", "trusted")
    authority("p256", P256, "good", "trusted")
    authority("p384", P384, "good", "trusted")
    authority("between", P256, "good", "middle")
    authority("expired", P256, "good", "trusted", ("20200101000000Z", "20210101000000Z"))
    authority("untimely", P256, "good", "trusted", ("21000101000000Z", "21200101000000Z"))
    for name in ("not_critical", "two_usages", "no_usage", "an_issuer"):
        authority(name, P256, name, "trusted")
    Path("claim.txt").write_text(CLAIM)
    openssl("ts", "-query", "-data", "root.txt", "-sha256", "-cert", "-out", "ask.tsq")
    openssl("ts", "-query", "-data", "claim.txt", "-sha256", "-cert", "-out", "claim.tsq")
    openssl("ts", "-query", "-data", "root.txt", "-sha256", "-out", "bare.tsq")
    openssl("ts", "-query", "-data", "root.txt", "-sha512", "-cert", "-out", "sha512.tsq")
    openssl("ts", "-query", "-data", "root.txt", "-sha384", "-cert", "-out", "refused.tsq")
    stamp("rsa.tsr", "rsa")
    stamp("rsa_sha512.tsr", "rsa", "-sha512")
    stamp("rsa_v2.tsr", "rsa", config="v2.cnf")
    stamp("p256.tsr", "p256")
    stamp("p384.tsr", "p384", "-sha384")
    stamp("between.tsr", "between", chain="middle")
    stamp("claim.tsr", "p256", ask="claim.tsq")
    stamp("expired.tsr", "expired")
    stamp("untimely.tsr", "untimely")
    stamp("no_certificate.tsr", "p256", ask="bare.tsq")
    stamp("sha512.tsr", "p256", ask="sha512.tsq")
    subprocess.run(["openssl", "ts", "-reply", "-config", "tsa.cnf", "-queryfile", "refused.tsq", "-signer", "rsa.crt", "-inkey", "rsa.key",
                    "-out", "refused.tsr"], capture_output=True)
    openssl("ts", "-reply", "-in", "rsa.tsr", "-token_out", "-out", "bare.tst")
    openssl("cms", "-verify", "-noverify", "-inform", "DER", "-in", "bare.tst", "-certfile", "rsa.crt", "-out", "info.der")
    sign("pss.tst", "rsa", "-keyopt", "rsa_padding_mode:pss", "-keyopt", "rsa_pss_saltlen:digest")
    sign("key_id.tst", "p256", "-keyid")
    for name in ("not_critical", "two_usages", "no_usage", "an_issuer"):
        sign(f"{name}.tst", name)


def git(*arguments: str, **options) -> bytes:
    environment = {"GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_NOSYSTEM": "1", "PATH": os.environ["PATH"]}
    for who in ("AUTHOR", "COMMITTER"):
        environment |= {f"GIT_{who}_NAME": "Ada Owner", f"GIT_{who}_EMAIL": "ada@example.org"}
        environment |= {f"GIT_{who}_DATE": "1700000000 +0100"}
    run = subprocess.run(["git", *arguments], check=True, capture_output=True, env=environment, **options)
    return run.stdout


def proof(folder: str, commit: str, tree: str, path: str) -> bytes:
    parts = path.split("/")
    names = [commit, f"{tree}^{{tree}}", *(f"{tree}:{'/'.join(parts[: i + 1])}" for i in range(len(parts)))]
    ids = git("-C", folder, "rev-parse", *names)
    return git("-C", folder, "cat-file", "--batch", input=ids)


def repositories() -> None:
    for name, hash, line in (("sha1", "sha1", LINE), ("sha256", "sha256", LINE), ("claim", "sha1", CLAIM)):
        git("init", "--quiet", f"--object-format={hash}", name)
        for file, text in {"a/b/root.txt": f"# roots\n{line}", "a/b/another": "1\n", "a/readme": "2\n", "z": "3\n"}.items():
            path = Path(name, file)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
            git("-C", name, "add", file)
            git("-C", name, "commit", "--quiet", "-m", f"Add {file}")
        Path(f"{name}.git").write_bytes(proof(name, "HEAD", "HEAD", "a/b/root.txt"))
    Path("elsewhere.git").write_bytes(proof("sha1", "HEAD~3", "HEAD", "a/b/root.txt"))


with tempfile.TemporaryDirectory() as folder:
    os.chdir(folder)
    stamps()
    repositories()
    for kind in ("*.tsr", "*.tst", "*.git", "root.txt"):
        for path in sorted(Path().glob(kind)):
            if path.is_file():
                (HERE / path.name).write_bytes(path.read_bytes())
    for name in ("trusted", "other"):
        (HERE / f"{name}.pem").write_bytes(Path(f"{name}.crt").read_bytes())
