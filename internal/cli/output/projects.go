package output

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"slipway.dev/slipway/api/v1alpha1"
)

// Projects gives the projects that the caller may see, by name. Nobody needs the right to list all of them.
func (c *Connection) Projects(ctx context.Context) (*v1alpha1.ProjectList, error) {
	raw, err := Raw(c.REST.Get().AbsPath("slipway", "v1", "projects").SetHeader("Accept", "application/json").Do(ctx))
	if err != nil {
		return nil, fmt.Errorf("cannot list projects: %w", err)
	}
	var list v1alpha1.ProjectList
	if err := json.Unmarshal(raw, &list); err != nil {
		return nil, fmt.Errorf("cannot list projects: %w", err)
	}
	return &list, nil
}

// ListAll fills list with the objects of every project: all at once where the caller may do that, else those of the
// projects that the caller may see, one after the other.
func (c *Connection) ListAll(ctx context.Context, list client.ObjectList, options ...client.ListOption) error {
	err := c.Client.List(ctx, list, options...)
	if !apierrors.IsForbidden(err) {
		return err
	}
	projects, err := c.Projects(ctx)
	if err != nil {
		return err
	}
	var all []runtime.Object
	for _, p := range projects.Items {
		one, ok := list.DeepCopyObject().(client.ObjectList)
		if !ok {
			return fmt.Errorf("cannot list %T", list)
		}
		if err := c.Client.List(ctx, one, append(options, client.InNamespace(p.Name))...); err != nil {
			return fmt.Errorf("in project %s: %w", p.Name, err)
		}
		items, err := meta.ExtractList(one)
		if err != nil {
			return fmt.Errorf("in project %s: %w", p.Name, err)
		}
		all = append(all, items...)
	}
	return meta.SetList(list, all)
}

// Answer asks a person one question and gives the answer without the spaces around it. A closed input is an empty
// answer. It comes back when ctx ends.
func Answer(ctx context.Context, deps Deps, question string) (string, error) {
	if _, err := fmt.Fprint(deps.Streams.ErrOut, Clean(question)); err != nil {
		return "", err
	}
	answers := make(chan string, 1)
	go func() {
		// An input that cannot be read is an empty answer, which means no.
		line, _ := bufio.NewReader(deps.Streams.In).ReadString('\n')
		answers <- strings.TrimSpace(line)
	}()
	select {
	case <-ctx.Done():
		return "", ctx.Err()
	case answer := <-answers:
		return answer, ctx.Err()
	}
}
