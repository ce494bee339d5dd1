package host

import (
	"bytes"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"slipway.dev/slipway/internal/fault"
)

// The fence keeps two things apart on a host.
//
// State (/var/lib/slipway/fence) outlives a reboot: the file holder says "OWNER EPOCH". Removing
// /var/lib/slipway as the last write releases the host.
//
// Runtime (/run/slipway) lives until the next boot: the file lock, whose descriptor the fenced command
// inherits, so that the orphan of a cut session still holds it; and the file epoch, the highest epoch
// since boot. Neither goes when the host is released, so that a late writer of an older claim is refused
// after the release too and no lock file is ever swapped under a waiting writer. After a reboot of a
// released host nothing is remembered; a late writer would then make a new claim under its old epoch,
// which the next claim sees as holder and outbids.

// The reasons of the errors that the fence gives.
const (
	ReasonOwnedByAnother = "HostOwnedByAnother"
	ReasonFencedOff      = "FencedOff"
	ReasonBusy           = "HostBusy"
	ReasonFenceDamaged   = "FenceDamaged"
	ReasonOutcomeUnknown = "OutcomeUnknown"
	ReasonUnreachable    = "Unreachable"
	ReasonCommandKilled  = "CommandKilled"
	// ReasonForwardingRefused says that a host does not let connections through.
	ReasonForwardingRefused = "ForwardingRefused"
)

// FencePlace says where a host keeps its fence. Only tests use another than DefaultFencePlace gives.
type FencePlace struct {
	// State is the directory of the holder file.
	State string
	// Runtime is the directory of the lock and of the highest epoch since boot.
	Runtime string
	// Wait is how long a write waits for the lock, in seconds.
	Wait int
}

// DefaultFencePlace gives /var/lib/slipway/fence, /run/slipway and 5 seconds.
func DefaultFencePlace() FencePlace {
	return FencePlace{State: "/var/lib/slipway/fence", Runtime: "/run/slipway", Wait: 5}
}

// The exit codes of the fence's own refusals; each comes with a line that starts with fenceMark.
const (
	exitOwned   = 201
	exitStale   = 202
	exitBusy    = 203
	exitDamaged = 204
	exitBroken  = 205
	fenceMark   = "slipway-fence: "
)

const environment = `PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
LC_ALL=C
export PATH LC_ALL
umask 022
`

// fenceScript runs one command behind the fence: STATE RUNTIME WAIT OWNER EPOCH ADOPT MAX argv...
// The command writes into two tails and never into the connection: when the connection is cut it
// goes on to its end instead of dying of SIGPIPE half-way, and its output stays bounded.
const fenceScript = environment + `state=$1 runtime=$2 wait=$3 owner=$4 epoch=$5 adopt=$6 max=$7
shift 7
trap '' HUP
refuse() { code=$1; shift; echo "slipway-fence: $*" >&2; exit "$code"; }
number() { case $1 in '' | *[!0-9]* | ???????????????????*) return 1 ;; esac; }
put() {
	printf '%s\n' "$2" >"$1.new" && sync "$1.new" && mv -f "$1.new" "$1" && sync "${1%/*}"
}
{ [ -d "$runtime" ] || mkdir -p "$runtime"; } && true >>"$runtime/lock" || refuse 205 "cannot make $runtime/lock"
tries=0
while :; do
	exec 9>>"$runtime/lock"
	flock -w "$wait" 9 || refuse 203 "$(head -c 200 "$runtime/lock")"
	[ "$runtime/lock" -ef /proc/self/fd/9 ] && break
	tries=$((tries + 1))
	[ "$tries" -lt 5 ] || refuse 203 "the lock file keeps changing"
	mkdir -p "$runtime"
done
highest=0 was= seen= rest=
if [ -e "$runtime/epoch" ]; then
	read -r highest <"$runtime/epoch"
	number "$highest" || highest=0
fi
remembered=$highest
if [ -e "$state/holder" ]; then
	read -r was seen rest <"$state/holder"
	if ! number "$seen" || [ -n "$rest" ]; then
		[ "$adopt" = 1 ] || refuse 204 "$state/holder cannot be read"
		was= seen=0
	fi
	[ "$was" = "$owner" ] || [ "$adopt" = 1 ] || refuse 201 "$was $seen"
	[ "$seen" -le "$highest" ] || highest=$seen
fi
[ "$epoch" -ge "$highest" ] || refuse 202 "$highest"
if [ "$was $seen" != "$owner $epoch" ]; then
	mkdir -p "$state" && put "$state/holder" "$owner $epoch" || refuse 205 "cannot write $state/holder"
fi
if [ "$remembered" != "$epoch" ]; then
	put "$runtime/epoch" "$epoch" || refuse 205 "cannot write $runtime/epoch"
fi
label=$1
if [ "$1" = sh ] && [ $# -gt 3 ]; then label=$4; fi
echo "process $$ ($label), epoch $epoch" >"$runtime/lock"
exec 3>&1
code=$({ { { "$@" 3>&- 4>&- 5>&-; echo "$?" >&5; } 2>&4 |
	tail -c "$max" >&3 4>&- 5>&- 9>&-; } 4>&1 |
	tail -c "$max" >&2 3>&- 5>&- 9>&-; } 5>&1)
true 2>/dev/null >"$runtime/lock"
exit "${code:-205}"
`

// maxEpoch keeps an epoch within the digits that the script compares.
const maxEpoch = 1e17

var ownerPattern = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$`)

// Validate refuses a fence token that a host could not keep: an owner that is not one word of letters,
// digits, '.', '_' and '-', or an epoch below 1.
func (f Fence) Validate() error {
	if !ownerPattern.MatchString(f.Owner) {
		return fault.NewBug(fmt.Errorf("cannot use fence owner %q: it must be one word of letters, digits, '.', '_' and '-'", f.Owner))
	}
	if f.Epoch < 1 || f.Epoch > maxEpoch {
		return fault.NewBug(fmt.Errorf("cannot use fence epoch %d: it must be positive", f.Epoch))
	}
	return nil
}

// FencedArgv gives the argv that runs c behind the fence on a host. It fails for a token or a command
// that cannot be expressed.
func FencedArgv(place FencePlace, f Fence, c Command) ([]string, error) {
	if err := f.Validate(); err != nil {
		return nil, err
	}
	if len(c.Argv) == 0 || c.Argv[0] == "" {
		return nil, fault.NewBug(fmt.Errorf("cannot run a command without a program"))
	}
	adopt := "0"
	if f.Adopt {
		adopt = "1"
	}
	argv := []string{"sh", "-c", fenceScript, "fence", place.State, place.Runtime, strconv.Itoa(place.Wait),
		f.Owner, strconv.FormatInt(f.Epoch, 10), adopt, strconv.Itoa(MaxOutput)}
	if len(c.Env) > 0 {
		if strings.ContainsRune(c.Argv[0], '=') {
			return nil, fault.NewBug(fmt.Errorf("cannot run %q with variables: its name holds a '='", c.Argv[0]))
		}
		argv = append(argv, "env")
		for _, e := range c.Env {
			if i := strings.IndexByte(e, '='); i < 1 || strings.HasPrefix(e, "-") {
				return nil, fault.NewBug(fmt.Errorf("cannot set variable %q: it must be NAME=value", e))
			}
			argv = append(argv, e)
		}
	}
	return append(argv, c.Argv...), nil
}

// FencedError turns the result of a fenced command into its error, nil when the command succeeded.
// The name is the host's, argv the command that a person knows.
func FencedError(name string, argv []string, r Result) error {
	if r.ExitCode == 0 {
		return nil
	}
	if text, ok := refusal(r.Stderr); ok {
		switch r.ExitCode {
		case exitOwned:
			owner, _, _ := strings.Cut(text, " ")
			return OwnedByAnother(name, owner)
		case exitStale:
			return FencedOff(name, text)
		case exitBusy:
			return Busy(name, text)
		case exitDamaged:
			return fault.NewTerminal(ReasonFenceDamaged, "look at the file on the host, then adopt the host to write it anew",
				fmt.Errorf("cannot change host %s: %s", name, text))
		case exitBroken:
			return fault.NewTerminal("FenceBroken", "make the file system of the host writable and free some room on it",
				fmt.Errorf("cannot change host %s: %s", name, text))
		}
	}
	err := &CommandError{Argv: argv, Result: r}
	if r.ExitCode > 128 && r.ExitCode <= 128+31 {
		return fault.NewTransient(ReasonCommandKilled, err)
	}
	return err
}

// OwnedByAnother gives the error of a host that another Slipway installation holds.
func OwnedByAnother(name, owner string) error {
	return fault.NewTerminal(ReasonOwnedByAnother,
		"remove the host from that installation, or adopt it if that installation is gone for good",
		fmt.Errorf("cannot change host %s: the Slipway installation %s holds it", name, owner))
}

// FencedOff gives the error of a writer whose epoch is lower than the highest that the host has seen.
func FencedOff(name, highest string) error {
	return fault.NewTerminal(ReasonFencedOff, "stop this server if another one has taken over; otherwise retry the operation",
		fmt.Errorf("cannot change host %s: a newer claim (epoch %s) has taken over", name, highest))
}

// Busy gives the error of a host on which an earlier command, described by who, still runs.
func Busy(name, who string) error {
	if who == "" {
		who = "another process"
	}
	return fault.NewTransient(ReasonBusy, fmt.Errorf("cannot change host %s: %s still holds the lock there", name, who))
}

// refusal finds the fence's own line at the end of stderr.
func refusal(stderr []byte) (string, bool) {
	i := bytes.LastIndex(stderr, []byte(fenceMark))
	if i < 0 || (i > 0 && stderr[i-1] != '\n') {
		return "", false
	}
	return Clean(string(stderr[i+len(fenceMark):]), 200), true
}
