package login

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

func TestPendingIsOnceAndShort(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPending[string](time.Minute)
		p.put("a", "10.0.0.1", "x")
		p.put("b", "10.0.0.1", "y")
		if v, ok := p.take("a"); !ok || v != "x" {
			t.Errorf("took %q, %v", v, ok)
		}
		if _, ok := p.take("a"); ok {
			t.Error("a value was given twice")
		}
		if _, ok := p.take(""); ok {
			t.Error("no key gives a value")
		}
		<-time.After(time.Minute)
		if _, ok := p.take("b"); ok {
			t.Error("a value outlived its time")
		}
	})
}

func TestPendingIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPending[int](time.Minute)
		p.put("person", "10.0.0.1", 1)
		<-time.After(time.Second)
		for i := range 10 * maxPendingFrom {
			p.put(fmt.Sprintf("flood-%d", i), fmt.Sprintf("2001:db8::%x", i), i) // One subscriber.
			<-time.After(time.Millisecond)
		}
		if len(p.kept) != maxPendingFrom+1 {
			t.Errorf("one client keeps %d logins waiting", len(p.kept)-1)
		}
		if _, ok := p.take("person"); !ok {
			t.Error("one client that floods the server threw out another's login")
		}
		for i := range 2 * maxPending {
			p.put(fmt.Sprintf("many-%d", i), fmt.Sprintf("address-%d", i), i)
		}
		if len(p.kept) != maxPending {
			t.Errorf("%d logins wait; %d is the most", len(p.kept), maxPending)
		}
		if _, ok := p.take(fmt.Sprintf("many-%d", 2*maxPending-1)); !ok {
			t.Error("the newest login was thrown out")
		}
		<-time.After(time.Minute)
		p.put("new", "10.0.0.1", 1)
		if len(p.kept) != 1 {
			t.Errorf("%d logins are kept after their time", len(p.kept)-1)
		}
	})
}
