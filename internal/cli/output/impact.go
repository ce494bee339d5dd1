package output

import (
	"fmt"
	"io"
	"strings"

	"slipway.dev/slipway/api/v1alpha1"
)

// caution stands before what somebody may not want.
const caution = "! "

// PrintImpact prints what an operation does to a cluster that runs; nil, which is a cluster that does not exist yet, prints
// nothing.
func PrintImpact(w io.Writer, i *v1alpha1.OperationImpact) error {
	if i == nil {
		return nil
	}
	rows := nodeRows(i)
	add := func(what, text string) {
		if text != "" {
			rows = append(rows, []string{what, text})
		}
	}
	if len(i.Everywhere) > 0 {
		add("everywhere:", "restarts "+strings.Join(i.Everywhere, ", ")+", one pod after another")
	}
	if i.APIAway {
		add("API:", caution+"no API server answers for a while")
	}
	if e := i.Etcd; e != nil {
		add("etcd:", majority(e))
	}
	if i.Unknown != "" {
		add("pods:", caution+"not known, nor budgets, room and etcd: "+i.Unknown)
	}
	add("moving:", counted(i.Moving, "starts anew on another node"))
	add("stopping:", counted(i.Stopping, "stops with its node"))
	add("lost:", bad(counted(i.Lost, "goes, and nothing makes it anew")))
	add("local data:", bad(counted(i.LocalData, "loses what it keeps in an emptyDir or a directory of its node")))
	add("interrupted:", bad(counted(i.Alone, "has no other ready pod on a node that stays")))
	for _, b := range i.Budgets {
		add("budget:", fmt.Sprintf("%s%s blocks %s: %s", caution, b.Name, podsOf(b.Pods), b.Why))
	}
	if i.MoreBudgets > 0 {
		add("budget:", fmt.Sprintf("%d more block", i.MoreBudgets))
	}
	add("room:", room(i))
	for _, text := range i.Warnings {
		add("warning:", text)
	}
	if last := i.LastTime; last != nil {
		add("last time:", fmt.Sprintf("%s (%s)", Elapsed(last.Took.Duration), last.Operation))
	}
	if len(rows) == 0 {
		rows = [][]string{{"nothing that runs is disturbed"}}
	}
	if err := printf(w, "what this does to the cluster, at most\n"); err != nil {
		return err
	}
	return Table(w, "  ", rows...)
}

func nodeRows(i *v1alpha1.OperationImpact) [][]string {
	var rows [][]string
	for _, n := range i.Nodes {
		var parts []string
		switch n.Change {
		case v1alpha1.NodeJoins:
			parts = append(parts, "joins")
		case v1alpha1.NodeLeaves:
			parts = append(parts, "leaves")
		case v1alpha1.NodeStops:
			parts = append(parts, "stops, and keeps everything")
		}
		if n.Drains {
			parts = append(parts, "is drained")
		}
		if n.Pods > 0 {
			parts = append(parts, podsOf(n.Pods))
		}
		if n.Reboots {
			parts = append(parts, "reboots")
		}
		if len(n.Restarts) > 0 {
			parts = append(parts, "restarts "+strings.Join(n.Restarts, ", "))
		}
		rows = append(rows, []string{"node " + n.Name + ":", strings.Join(parts, "; ")})
	}
	if i.MoreNodes > 0 {
		rows = append(rows, []string{"nodes:", fmt.Sprintf("%d more", i.MoreNodes)})
	}
	return rows
}

func majority(e *v1alpha1.EtcdImpact) string {
	text := fmt.Sprintf("%d of %d members answer at the worst moment, %d are needed", e.Answering, e.Members, e.Needed)
	if e.Kept() {
		return text
	}
	return bad(text)
}

// room is said only where pods move.
func room(i *v1alpha1.OperationImpact) string {
	if text := counted(i.NoRoom, "fits on no node that is left"); text != "" {
		return bad(text)
	}
	if i.Moving.Count > 0 {
		return "enough on the nodes that are left"
	}
	return ""
}

// counted reads "3: shop/a, shop/b and 1 more; each stops with its node".
func counted(p v1alpha1.PodNames, each string) string {
	if p.Count == 0 {
		return ""
	}
	names := strings.Join(p.Names, ", ")
	if more := int(p.Count) - len(p.Names); more > 0 {
		names += fmt.Sprintf(" and %d more", more)
	}
	return fmt.Sprintf("%d: %s; each %s", p.Count, names, each)
}

func podsOf(n int32) string {
	if n == 1 {
		return "1 pod"
	}
	return fmt.Sprintf("%d pods", n)
}

func bad(text string) string {
	if text == "" {
		return ""
	}
	return caution + text
}
