package sandbox

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// Sudo says how a user of a sandbox host becomes root.
type Sudo string

const (
	// SudoNone is a user who cannot become root.
	SudoNone Sudo = "none"
	// SudoPassword is a user whose sudo asks for the user's password.
	SudoPassword Sudo = "password"
	// SudoNoPassword is a user whose sudo asks for nothing.
	SudoNoPassword Sudo = "nopasswd"
)

// User is an account on a sandbox host that logs in by SSH with a random password.
type User struct {
	// Name is the login, 1 to 31 lower-case letters, digits, '_' and '-'; root is not possible.
	Name string
	// Sudo says how the user becomes root; the default is SudoNone.
	Sudo Sudo
}

// userPattern is stricter than useradd, because the name also becomes a file name for sudo.
var userPattern = regexp.MustCompile(`^[a-z_][-a-z0-9_]{0,30}$`)

func (u User) validate() error {
	if !userPattern.MatchString(u.Name) || u.Name == loginUser {
		return fmt.Errorf("%q cannot be a sandbox user name", u.Name)
	}
	switch u.Sudo {
	case "", SudoNone, SudoPassword, SudoNoPassword:
		return nil
	}
	return fmt.Errorf("user %s: unknown sudo mode %q", u.Name, u.Sudo)
}

// userScript reads name, password and sudo rule from three lines of standard input; it may run any number of times.
const userScript = `set -eu
read -r name
read -r password
read -r rule
id -u "$name" > /dev/null 2>&1 || useradd --create-home --shell /bin/bash "$name"
printf '%s:%s\n' "$name" "$password" | chpasswd
file="/etc/sudoers.d/sandbox-$name"
if [ -n "$rule" ]; then
	printf '%s\n' "$rule" > "$file"
	chmod 0440 "$file"
else
	rm -f "$file"
fi
printf 'Match User %s\n\tPasswordAuthentication yes\n' "$name" > "/etc/ssh/sshd_config.d/50-sandbox-$name.conf"
sshd -t
systemctl reload ssh.service
`

// sudoRule is the user's line in sudoers, empty for none.
func (u User) sudoRule() string {
	switch u.Sudo {
	case SudoPassword:
		return u.Name + " ALL=(ALL:ALL) ALL"
	case SudoNoPassword:
		return u.Name + " ALL=(ALL:ALL) NOPASSWD: ALL"
	}
	return ""
}

// AddUser makes an account with a password login on a running host and gives the password, which is random, the
// same on all hosts of the sandbox, and kept in the sandbox directory (mode 0600). Adding a user again changes
// what differs.
func AddUser(ctx context.Context, dir, host string, user User) (string, error) {
	if err := user.validate(); err != nil {
		return "", fmt.Errorf("cannot add user: %w", err)
	}
	var password string
	err := withHost(ctx, dir, host, func(id identity, _ *state, h hostState) error {
		passwords, err := ensurePasswords(ctx, id.dir, []User{user})
		if err != nil {
			return err
		}
		password = passwords[user.Name]
		return addUser(ctx, id, h, user, password)
	})
	return password, err
}

func addUser(ctx context.Context, id identity, h hostState, user User, password string) error {
	client, err := login(ctx, id, h)
	if err != nil {
		return err
	}
	defer closeQuietly(client)
	session, err := client.NewSession()
	if err != nil {
		return fmt.Errorf("cannot open a session on host %s: %w", h.Name, err)
	}
	defer closeQuietly(session)
	stop := context.AfterFunc(ctx, func() { closeQuietly(client) })
	defer stop()
	session.Stdin = strings.NewReader(user.Name + "\n" + password + "\n" + user.sudoRule() + "\n")
	output, err := session.CombinedOutput("sh -c '" + strings.ReplaceAll(userScript, "'", `'\''`) + "'")
	if err != nil {
		return fmt.Errorf("cannot add user %s on host %s: %w%s", user.Name, h.Name, err, lastLines(output, 5))
	}
	return nil
}

// closeQuietly is for connections whose work is done: nothing can follow from how they close.
func closeQuietly(c interface{ Close() error }) {
	_ = c.Close()
}

// Passwords gives the password of each user of the sandbox.
func Passwords(dir string) (map[string]string, error) {
	id, err := identify(dir)
	if err != nil {
		return nil, err
	}
	return readPasswords(id.dir)
}

func readPasswords(dir string) (map[string]string, error) {
	passwords := map[string]string{}
	data, err := os.ReadFile(filepath.Join(dir, usersFile))
	if errors.Is(err, fs.ErrNotExist) {
		return passwords, nil
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read sandbox passwords: %w", err)
	}
	if err := json.Unmarshal(data, &passwords); err != nil {
		return nil, fmt.Errorf("cannot read sandbox passwords: %w", err)
	}
	return passwords, nil
}

// ensurePasswords makes the passwords that are missing. Two hosts may be worked on at once, hence the lock.
func ensurePasswords(ctx context.Context, dir string, users []User) (map[string]string, error) {
	unlock, err := lock(ctx, filepath.Join(dir, usersLock), false)
	if err != nil {
		return nil, err
	}
	passwords, err := addPasswords(dir, users)
	return passwords, errors.Join(err, unlock())
}

func addPasswords(dir string, users []User) (map[string]string, error) {
	passwords, err := readPasswords(dir)
	if err != nil {
		return nil, err
	}
	changed := false
	for _, user := range users {
		if passwords[user.Name] == "" {
			passwords[user.Name] = rand.Text()
			changed = true
		}
	}
	if !changed {
		return passwords, nil
	}
	data, err := json.MarshalIndent(passwords, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("cannot encode sandbox passwords: %w", err)
	}
	if err := writeFile(filepath.Join(dir, usersFile), append(data, '\n'), 0o600); err != nil {
		return nil, fmt.Errorf("cannot write sandbox passwords: %w", err)
	}
	return passwords, nil
}
