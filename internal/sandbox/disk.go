package sandbox

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/crypto/ssh"
)

const (
	imageFile   = "disk.img"
	rootDir     = "root"
	hostKeyFile = "ssh_host_ed25519_key"
	consoleFile = "console.log"
)

// seedScript unpacks standard input into the file system of the image $1, mounted at $2 for as long as it takes.
const seedScript = `set -eu
mount -o loop -- "$1" "$2"
tar -x -p -m --numeric-owner -C "$2" -f -
umount -- "$2"
`

// makeDisk gives a host its own file system, made from the base image. The image gets its final name last: a
// host with an image is a host that is whole.
func makeDisk(ctx context.Context, id identity, s *state, h hostState, base string) error {
	dir := id.hostDir(h.Name)
	image := filepath.Join(dir, imageFile)
	if _, err := os.Stat(image); err == nil {
		return nil
	}
	if err := os.MkdirAll(filepath.Join(dir, rootDir), 0o700); err != nil {
		return err
	}
	login, err := loginKey(id.dir)
	if err != nil {
		return err
	}
	hostKey, err := ensureKey(filepath.Join(dir, hostKeyFile), h.Name)
	if err != nil {
		return err
	}
	seed, err := archive(seedFiles(s.Subnet, h, hostKey, login))
	if err != nil {
		return fmt.Errorf("cannot pack the files of host %s: %w", h.Name, err)
	}
	temporary := image + ".tmp"
	if _, err := run(ctx, nil, "cp", "--sparse=always", "--reflink=auto", "--", base, temporary); err != nil {
		return err
	}
	if err := os.Chmod(temporary, 0o600); err != nil {
		return err
	}
	if err := os.Truncate(temporary, h.Disk); err != nil {
		return err
	}
	if _, err := run(ctx, nil, "resize2fs", temporary); err != nil {
		return err
	}
	if _, err := run(ctx, nil, "tune2fs", "-U", "random", temporary); err != nil {
		return err
	}
	if _, err := runConfined(ctx, bytes.NewReader(seed), "sh", "-c", seedScript, "seed", temporary, filepath.Join(dir, rootDir)); err != nil {
		return err
	}
	return os.Rename(temporary, image)
}

// seedFiles is what makes a host itself. Its resolv.conf names the bridge, where nothing answers: some programs
// refuse to start when the file names no server at all.
func seedFiles(subnet netip.Prefix, h hostState, hostKey, login keyPair) []file {
	gateway := addressIn(subnet, 1)
	return []file{
		{path: "etc/hostname", data: h.Name + "\n", mode: 0o644},
		{path: "etc/hosts", data: fmt.Sprintf("127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n%s %s\n", h.Address, h.Name), mode: 0o644},
		{path: "etc/machine-id", data: h.MachineID + "\n", mode: 0o444},
		{path: "etc/resolv.conf", data: fmt.Sprintf("nameserver %s\n", gateway), mode: 0o644},
		{path: "etc/sandbox/network", data: fmt.Sprintf("ADDRESS=%s/%d\nGATEWAY=%s\n", h.Address, subnet.Bits(), gateway), mode: 0o644},
		{path: "etc/ssh/ssh_host_ed25519_key", data: hostKey.private, mode: 0o600},
		{path: "etc/ssh/ssh_host_ed25519_key.pub", data: hostKey.public + "\n", mode: 0o644},
		{path: "root/.ssh/authorized_keys", data: login.public + "\n", mode: 0o600},
	}
}

// archive renders files as a tar stream owned by root.
func archive(files []file) ([]byte, error) {
	var buffer bytes.Buffer
	writer := tar.NewWriter(&buffer)
	header := &tar.Header{Typeflag: tar.TypeDir, Name: "root/.ssh/", Mode: 0o700}
	if err := writer.WriteHeader(header); err != nil {
		return nil, err
	}
	for _, f := range files {
		header := &tar.Header{Typeflag: tar.TypeReg, Name: f.path, Mode: int64(f.mode), Size: int64(len(f.data))}
		if err := writer.WriteHeader(header); err != nil {
			return nil, err
		}
		if _, err := writer.Write([]byte(f.data)); err != nil {
			return nil, err
		}
	}
	if err := writer.Close(); err != nil {
		return nil, err
	}
	return buffer.Bytes(), nil
}

// keyPair is an ed25519 SSH key: private in OpenSSH's PEM, public in authorized_keys format without line break.
type keyPair struct {
	private, public string
}

// loginKey is the sandbox's own login key, made on first use.
func loginKey(dir string) (keyPair, error) {
	return ensureKey(filepath.Join(dir, keyFile), "slipway-sandbox")
}

// ensureKey reads a private key from the path, or makes one there with mode 0600.
func ensureKey(path, comment string) (keyPair, error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		data, err = makeKey(path, comment)
	}
	if err != nil {
		return keyPair{}, fmt.Errorf("cannot get SSH key %s: %w", path, err)
	}
	signer, err := ssh.ParsePrivateKey(data)
	if err != nil {
		return keyPair{}, fmt.Errorf("cannot read SSH key %s: %w", path, err)
	}
	public := strings.TrimSpace(string(ssh.MarshalAuthorizedKey(signer.PublicKey()))) + " " + comment
	return keyPair{private: string(data), public: public}, nil
}

func makeKey(path, comment string) ([]byte, error) {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	block, err := ssh.MarshalPrivateKey(private, comment)
	if err != nil {
		return nil, err
	}
	data := pem.EncodeToMemory(block)
	return data, writeFile(path, data, 0o600)
}
