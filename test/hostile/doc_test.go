// Package hostile holds the tests of what enemies can put in: strings of people, specs, settings and bundles on their
// way to a host, and whatever a lying host answers. It must never need root, the network or a real host.
package hostile

import (
	"flag"
	"fmt"
	"hash/maphash"
	"maps"
	"os"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"
)

// leastInputs is how many hostile inputs HOSTILE=full tries, over all suites.
const leastInputs = 1_000_000

// size gives how often something is tried: n times with HOSTILE=full, a twenty-fourth of that in the quick loop.
func size(n int) int {
	if os.Getenv("HOSTILE") == "full" {
		return n
	}
	return max(n/24, 1)
}

// tally knows the inputs of each suite. An input is a string or a document that went through the code under test; what
// comes again in the same suite counts once.
type tally struct {
	seed   maphash.Seed
	mu     sync.Mutex
	inputs map[string]map[uint64]struct{}
}

var tried = &tally{seed: maphash.MakeSeed(), inputs: map[string]map[uint64]struct{}{}}

// add notes inputs of a suite.
func (t *tally) add(suite string, inputs ...string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	known := t.inputs[suite]
	if known == nil {
		known = map[uint64]struct{}{}
		t.inputs[suite] = known
	}
	for _, input := range inputs {
		known[maphash.String(t.seed, input)] = struct{}{}
	}
}

// TestMain reports how many inputs were tried and what that cost, and wants enough of them of a full run.
func TestMain(m *testing.M) {
	flag.Parse()
	begun, code, sum := time.Now(), m.Run(), 0
	for _, suite := range slices.Sorted(maps.Keys(tried.inputs)) {
		fmt.Printf("%9d inputs: %s\n", len(tried.inputs[suite]), suite)
		sum += len(tried.inputs[suite])
	}
	fmt.Printf("%9d different inputs over %d suites in %s, %s of processor time\n", sum, len(tried.inputs),
		time.Since(begun).Round(time.Second/10), processorTime().Round(time.Second/10))
	if code == 0 && everything() && sum < leastInputs {
		fmt.Printf("a full run must try %d\n", leastInputs)
		code = 1
	}
	os.Exit(code)
}

// everything says that all tests ran, in full size.
func everything() bool {
	for _, choice := range []string{"run", "skip", "list", "fuzz"} {
		if flag.Lookup("test."+choice).Value.String() != "" {
			return false
		}
	}
	return os.Getenv("HOSTILE") == "full"
}

// processorTime is what this process and its children have used.
func processorTime() time.Duration {
	var all time.Duration
	for _, who := range []int{syscall.RUSAGE_SELF, syscall.RUSAGE_CHILDREN} {
		var used syscall.Rusage
		if err := syscall.Getrusage(who, &used); err == nil {
			all += time.Duration(used.Utime.Nano() + used.Stime.Nano())
		}
	}
	return all
}
