package host

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
	gossh "golang.org/x/crypto/ssh"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/cli/output"
	"slipway.dev/slipway/internal/host/ssh"
)

const addLong = `Add a machine: store its login, show its host key and pin it, and wait until the server has logged in.

The login goes into a Secret that nobody can read back. Passwords come from a file or standard input, never from the
command line. Whatever fails before the host is reachable leaves nothing behind.

Advice: use newly installed machines; give an intranet address; comment out the options line of /etc/resolv.conf.`

// add is one run of `host add`.
type add struct {
	deps       output.Deps
	connection *output.Connection
	login      login
	host       *v1alpha1.Host
	accept     string
	yes        bool
	// made lists what was created, in order, to take back when the host cannot be added.
	made []client.Object
	// pinned says that a person, or a flag, has confirmed the key.
	pinned bool
	told   string
}

func newAdd(deps output.Deps) *cobra.Command {
	var l login
	var spec v1alpha1.HostSpec
	var accept string
	var yes bool
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "add NAME --address A (--user U (--key FILE | --password-file FILE | --password-stdin) | --credential NAME)",
		Short: "Add a machine, pin its host key and wait until it can be reached",
		Long:  addLong,
		Args:  output.Args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkFlags(&l, &spec, accept, deps.Terminal && !l.passwordStdin || yes); err != nil {
				return err
			}
			connection, err := deps.Connect("")
			if err != nil {
				return err
			}
			a := &add{deps: deps, connection: connection, login: l, accept: accept, yes: yes,
				host: &v1alpha1.Host{ObjectMeta: metav1.ObjectMeta{Name: args[0]}, Spec: spec}}
			ctx := cmd.Context()
			if timeout > 0 {
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeout(ctx, timeout)
				defer cancel()
			}
			return a.run(ctx)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&spec.Address, "address", "", "IP address or name that SSH connects to; an intranet address is advised")
	flags.Int32Var(&spec.Port, "port", 22, "port of sshd")
	flags.StringVar(&l.user, "user", "", "login name; any other than root needs sudo")
	flags.StringVar(&l.key, "key", "", "file with the private key")
	flags.StringVar(&l.passphrase, "passphrase-file", "", "file with the private key's passphrase")
	flags.StringVar(&l.password, "password-file", "", "file with the password")
	flags.BoolVar(&l.passwordStdin, "password-stdin", false, "read the password from standard input")
	flags.StringVar(&l.sudoPassword, "sudo-password-file", "", "file with the password that sudo asks for, when it is another than the login's")
	flags.StringVar(&l.credential, "credential", "", "use this Credential instead of a new login")
	flags.StringVar(&spec.InternalAddress, "internal-address", "", "IP that the cluster uses (default: that of the network card that has the address)")
	flags.StringVar(&spec.Region, "region", "", "region; a cluster never spans two")
	flags.StringVar(&spec.HostKey, "host-key", "", `the machine's public key, such as "ssh-ed25519 AAAA..."; nothing is asked`)
	flags.StringVar(&accept, "accept-host-key", "", "pin the offered key if it has this fingerprint (SHA256:...)")
	flags.BoolVar(&yes, "yes", false, "pin the offered key without comparing it")
	flags.DurationVar(&timeout, "timeout", 5*time.Minute, "how long to wait for the host; 0 means no limit")
	return cmd
}

// checkFlags refuses what can be seen to be wrong without the server.
func checkFlags(l *login, spec *v1alpha1.HostSpec, accept string, canAsk bool) error {
	if spec.Address == "" {
		return output.Usagef("cannot add the host: --address is missing")
	}
	if err := l.check(); err != nil {
		return err
	}
	switch {
	case spec.HostKey != "" && accept != "":
		return output.Usagef("cannot combine --host-key and --accept-host-key: give one")
	case spec.HostKey != "":
		key, _, _, _, err := gossh.ParseAuthorizedKey([]byte(spec.HostKey))
		if err != nil {
			return output.Usagef("cannot read --host-key: %w", err)
		}
		spec.HostKey = strings.TrimSpace(string(gossh.MarshalAuthorizedKey(key)))
	case accept != "" && !strings.HasPrefix(accept, "SHA256:"):
		return output.Usagef("cannot use --accept-host-key %s: it starts with SHA256:", accept)
	case accept == "" && !canAsk:
		return output.Usagef("cannot ask whether the host key is right: give --accept-host-key SHA256:... or --host-key")
	}
	return nil
}

// run adds the host, or takes back what it made.
func (a *add) run(ctx context.Context) error {
	err := a.refuseKnown(ctx)
	if err != nil {
		return err
	}
	if err = a.create(ctx); err == nil {
		err = a.confirm(ctx)
	}
	if err == nil {
		err = a.reach(ctx)
	}
	if err == nil {
		return nil
	}
	waiting := errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
	if waiting && a.pinned {
		next := "host " + a.host.Name + " stays and the server goes on trying; look: slipway host check " + a.host.Name +
			", give up: slipway host remove " + a.host.Name
		return output.WaitError(err, "host "+a.host.Name+" reachable", next)
	}
	if undo := a.undo(ctx); undo != nil {
		return errors.Join(err, undo)
	}
	return output.WaitError(err, "the host key of "+a.host.Name, "nothing was kept; check address and port: "+fixFor(a.host, "Unreachable"))
}

func (a *add) refuseKnown(ctx context.Context) error {
	var known v1alpha1.Host
	err := a.connection.Client.Get(ctx, client.ObjectKey{Name: a.host.Name}, &known)
	switch {
	case apierrors.IsNotFound(err):
		return nil
	case err != nil:
		return fmt.Errorf("cannot add host %s: %w", a.host.Name, err)
	default:
		return output.Refused("AlreadyExists", "look at it: slipway host check "+a.host.Name+", or choose another name",
			"cannot add host %s: a host of that name exists, at %s", a.host.Name, known.Spec.Address)
	}
}

func (a *add) create(ctx context.Context) error {
	credential, err := a.login.store(ctx, a.connection.Client, a.host.Name, a.deps.Streams.In, &a.made)
	if err != nil {
		return err
	}
	a.host.Spec.Credential = credential
	if err := a.connection.Client.Create(ctx, a.host); err != nil {
		return fmt.Errorf("cannot add host %s: %w", a.host.Name, err)
	}
	a.made = append(a.made, a.host)
	a.pinned = a.host.Spec.HostKey != ""
	a.note("host %s: waiting for the server to reach %s port %d", a.host.Name, a.host.Spec.Address, port(a.host))
	return nil
}

// confirm waits for the key that the machine offers, has it confirmed and pins it.
func (a *add) confirm(ctx context.Context) error {
	if a.pinned {
		return nil
	}
	var offered *v1alpha1.OfferedKey
	err := a.watch(ctx, func(host *v1alpha1.Host) (bool, error) {
		if offered = host.Status.OfferedKey; offered != nil {
			return true, nil
		}
		c := reachable(host)
		if c != nil && c.Status == metav1.ConditionFalse && c.Reason != ssh.ReasonHostKeyUnconfirmed && !mayHeal(c.Reason) {
			return false, refusal("add", host, c)
		}
		return false, nil
	})
	if err != nil {
		return err
	}
	if err := a.ask(ctx, offered); err != nil {
		return err
	}
	before := a.host.DeepCopy()
	a.host.Spec.HostKey = offered.Key
	if err := a.connection.Client.Patch(ctx, a.host, client.MergeFrom(before)); err != nil {
		return fmt.Errorf("cannot pin the key of host %s: %w", a.host.Name, err)
	}
	a.pinned = true
	return nil
}

// ask has a person, or the flag, say whether the key is the machine's.
func (a *add) ask(ctx context.Context, offered *v1alpha1.OfferedKey) error {
	kind, _, _ := strings.Cut(offered.Key, " ")
	a.note("host %s offers the key %s (%s)", a.host.Name, offered.Fingerprint, kind)
	switch {
	case a.accept == offered.Fingerprint:
		return nil
	case a.accept != "":
		return output.Refused("HostKeyDiffers", "find out why: compare on the machine itself with ssh-keygen -lf "+keyFile(kind),
			"cannot add host %s: it offers the key %s, not %s", a.host.Name, offered.Fingerprint, a.accept)
	case a.yes:
		a.note("pinned without comparing it (--yes)")
		return nil
	}
	a.note("Compare it with what this prints on the machine itself:\n  ssh-keygen -lf %s", keyFile(kind))
	if _, err := fmt.Fprint(a.deps.Streams.ErrOut, "Is it the same? [y/N] "); err != nil {
		return err
	}
	answer, err := readLine(ctx, a.deps)
	if err != nil {
		return err
	}
	if answer != "y" && answer != "yes" {
		return output.Refused("HostKeyNotConfirmed", "compare the fingerprint and run the command again; nothing was kept",
			"cannot add host %s: its key was not confirmed", a.host.Name)
	}
	return nil
}

// readLine reads an answer, or comes back when ctx ends.
func readLine(ctx context.Context, deps output.Deps) (string, error) {
	answers := make(chan string, 1)
	go func() {
		// A closed input is an empty answer, which means no.
		line, _ := bufio.NewReader(deps.Streams.In).ReadString('\n')
		answers <- strings.ToLower(strings.TrimSpace(line))
	}()
	select {
	case <-ctx.Done():
		return "", ctx.Err()
	case answer := <-answers:
		return answer, ctx.Err()
	}
}

// keyFile gives where sshd usually keeps the public key of that kind.
func keyFile(kind string) string {
	name := "ed25519"
	switch {
	case strings.HasPrefix(kind, "ecdsa"):
		name = "ecdsa"
	case strings.HasPrefix(kind, "ssh-rsa"), strings.HasPrefix(kind, "rsa-"):
		name = "rsa"
	}
	return "/etc/ssh/ssh_host_" + name + "_key.pub"
}

// reach waits until the server has logged in, and prints what it found.
func (a *add) reach(ctx context.Context) error {
	a.told = ""
	err := a.watch(ctx, func(host *v1alpha1.Host) (bool, error) {
		c := reachable(host)
		switch {
		case c == nil || c.Status == metav1.ConditionUnknown || host.Spec.HostKey == "":
			return false, nil
		case c.Status == metav1.ConditionTrue:
			return true, nil
		case mayHeal(c.Reason):
			return false, nil
		case c.Reason == ssh.ReasonHostKeyUnconfirmed:
			return false, nil
		default:
			return false, refusal("add", host, c)
		}
	})
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintf(a.deps.Streams.Out, "host %s added\n", a.host.Name); err != nil {
		return err
	}
	return printHost(a.deps, a.host)
}

// watch follows the host until see says done. It keeps the host as last seen.
func (a *add) watch(ctx context.Context, see func(*v1alpha1.Host) (bool, error)) error {
	lost := func(err error) {
		if err != nil {
			a.note("the server does not answer, waiting for it")
		}
	}
	return output.Watch(ctx, a.connection.Client, &v1alpha1.HostList{}, lost, func(all []*v1alpha1.Host) (bool, error) {
		if len(all) == 0 {
			return false, output.Refused("Removed", "", "cannot add host %s: somebody has removed it meanwhile", a.host.Name)
		}
		a.host = all[0]
		if c := reachable(a.host); c != nil && c.Status == metav1.ConditionFalse && mayHeal(c.Reason) && c.Message != a.told {
			a.told = c.Message
			a.note("not reachable yet: %s", c.Message)
		}
		return see(a.host)
	}, output.Named(a.host.Name))
}

// undo takes back what was made, the last first, even when ctx has ended.
func (a *add) undo(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 15*time.Second)
	defer cancel()
	var failed []error
	for i := len(a.made) - 1; i >= 0; i-- {
		object := a.made[i]
		if err := client.IgnoreNotFound(a.connection.Client.Delete(ctx, object)); err != nil {
			failed = append(failed, fmt.Errorf("cannot take back %T %s: %w", object, object.GetName(), err))
		}
	}
	return errors.Join(failed...)
}

// note tells a person what happens; results go elsewhere.
func (a *add) note(format string, values ...any) {
	// A note that cannot be printed must not stop the work.
	_, _ = fmt.Fprintln(a.deps.Streams.ErrOut, output.Clean(fmt.Sprintf(format, values...)))
}
