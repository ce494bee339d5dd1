// Package hostile holds the tests of what enemies can put in: strings of people, specs, settings and bundles on their
// way to a host, and whatever a lying host answers. It must never need root, the network or a real host.
package hostile

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"
)

// leastInputs is how many hostile inputs a full run tries, over all suites.
const leastInputs = 1_000_000

// tally counts the inputs of each suite.
type tally struct {
	mu     sync.Mutex
	inputs map[string]int
}

var tried = &tally{inputs: map[string]int{}}

// add notes n inputs of a suite.
func (t *tally) add(suite string, n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.inputs[suite] += n
}

// TestMain reports how many inputs were tried and what that cost, and wants enough of them of a full run.
func TestMain(m *testing.M) {
	flag.Parse()
	code := m.Run()
	sum := 0
	for _, suite := range slices.Sorted(maps.Keys(tried.inputs)) {
		fmt.Printf("%9d inputs: %s\n", tried.inputs[suite], suite)
		sum += tried.inputs[suite]
	}
	fmt.Printf("%9d inputs in all, %s of processor time\n", sum, processorTime().Round(time.Second/10))
	if full := flag.Lookup("test.run").Value.String() == "" && flag.Lookup("test.skip").Value.String() == ""; full && code == 0 && sum < leastInputs {
		fmt.Printf("a full run must try %d\n", leastInputs)
		code = 1
	}
	os.Exit(code)
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
