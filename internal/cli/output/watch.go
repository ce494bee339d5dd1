package output

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/resourceversion"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Watch calls see with all objects that list and options select, in the order of their creation: once at the start and
// after each change, until see says done or fails, or ctx ends. A server that goes away is waited for; lost is told once
// each time (nil: nobody is), with a nil error when it is back. What the server refuses ends the watch.
func Watch[T client.Object](ctx context.Context, c client.WithWatch, list client.ObjectList, lost func(error),
	see func([]T) (bool, error), options ...client.ListOption,
) error {
	w := &watcher[T]{client: c, list: list, options: options, see: see}
	backoff := wait.Backoff{Duration: 200 * time.Millisecond, Factor: 2, Jitter: 0.2, Steps: 6, Cap: 5 * time.Second}
	delays, seen, away := backoff, false, false
	for {
		w.started = func() {
			seen, delays = true, backoff
			if away && lost != nil {
				lost(nil)
			}
			away = false
		}
		done, err := w.round(ctx)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case done || w.decided:
			return err
		case err != nil && (!seen || refused(err)):
			return err
		case err != nil && !away:
			away = true
			if lost != nil {
				lost(err)
			}
		}
		timer := time.NewTimer(delays.Step())
		select {
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		case <-timer.C:
		}
	}
}

// refused says that the server answered and will not answer otherwise.
func refused(err error) bool {
	return apierrors.IsForbidden(err) || apierrors.IsUnauthorized(err) || apierrors.IsNotFound(err) ||
		apierrors.IsInvalid(err) || apierrors.IsBadRequest(err) || apierrors.IsMethodNotSupported(err)
}

type watcher[T client.Object] struct {
	client  client.WithWatch
	list    client.ObjectList
	options []client.ListOption
	see     func([]T) (bool, error)
	started func()
	// decided says that see has failed, so that its error ends the watch.
	decided bool
	objects map[client.ObjectKey]T
}

// round opens a watch, reads what is there, and follows the changes until the watch breaks.
func (w *watcher[T]) round(ctx context.Context) (bool, error) {
	// The watch is opened before the list is read, so that no change falls between the two.
	events, err := w.client.Watch(ctx, w.list.DeepCopyObject().(client.ObjectList), w.options...)
	if err != nil {
		return false, fmt.Errorf("cannot watch: %w", err)
	}
	defer events.Stop()
	if err := w.read(ctx); err != nil {
		return false, err
	}
	w.started()
	if done, err := w.show(); done || err != nil {
		return done, err
	}
	for {
		select {
		case <-ctx.Done():
			return false, ctx.Err()
		case event, open := <-events.ResultChan():
			if !open {
				return false, nil
			}
			if event.Type == watch.Error {
				return false, apierrors.FromObject(event.Object)
			}
			changed, err := w.take(event)
			if err != nil {
				return false, err
			}
			if !changed {
				continue
			}
			if done, err := w.show(); done || err != nil {
				return done, err
			}
		}
	}
}

// read replaces what is known by what is there now.
func (w *watcher[T]) read(ctx context.Context) error {
	list := w.list.DeepCopyObject().(client.ObjectList)
	if err := w.client.List(ctx, list, w.options...); err != nil {
		return err
	}
	items, err := meta.ExtractList(list)
	if err != nil {
		return fmt.Errorf("cannot read the list: %w", err)
	}
	w.objects = map[client.ObjectKey]T{}
	for _, item := range items {
		object, ok := item.(T)
		if !ok {
			return fmt.Errorf("cannot read the list: it holds a %T", item)
		}
		w.objects[client.ObjectKeyFromObject(object)] = object
	}
	return nil
}

// take brings what is known up to date, and says whether that changed anything.
func (w *watcher[T]) take(event watch.Event) (bool, error) {
	object, ok := event.Object.(T)
	if !ok {
		// Bookmarks and the like carry no news.
		return false, nil
	}
	selected, err := w.selects(object)
	if err != nil || !selected {
		return false, err
	}
	key := client.ObjectKeyFromObject(object)
	known, have := w.objects[key]
	if have {
		order, err := resourceversion.CompareResourceVersion(object.GetResourceVersion(), known.GetResourceVersion())
		if err != nil {
			return false, fmt.Errorf("cannot follow %s: %w", key.Name, err)
		}
		// A new watch tells again what the list has told already.
		if order < 0 || order == 0 && event.Type != watch.Deleted {
			return false, nil
		}
	}
	if event.Type == watch.Deleted {
		delete(w.objects, key)
		return have, nil
	}
	w.objects[key] = object
	return true, nil
}

// selects is the server's selection again, for servers that send more.
func (w *watcher[T]) selects(object T) (bool, error) {
	var options client.ListOptions
	options.ApplyOptions(w.options)
	if options.LabelSelector != nil && !options.LabelSelector.Matches(labels.Set(object.GetLabels())) {
		return false, nil
	}
	if options.FieldSelector == nil {
		return true, nil
	}
	for _, r := range options.FieldSelector.Requirements() {
		if r.Field != nameField {
			return false, fmt.Errorf("cannot watch: field %s cannot be selected", r.Field)
		}
		if r.Value != object.GetName() {
			return false, nil
		}
	}
	return true, nil
}

func (w *watcher[T]) show() (bool, error) {
	objects := make([]T, 0, len(w.objects))
	for _, object := range w.objects {
		objects = append(objects, object)
	}
	slices.SortFunc(objects, func(a, b T) int {
		return cmp.Or(a.GetCreationTimestamp().Compare(b.GetCreationTimestamp().Time), strings.Compare(a.GetName(), b.GetName()))
	})
	done, err := w.see(objects)
	w.decided = err != nil
	return done, err
}

const nameField = "metadata.name"

// Named selects the one object of that name.
func Named(name string) client.ListOption { return client.MatchingFields{nameField: name} }

// WaitError makes the end of a wait an error for people: what is what was waited for, and next says how to go on. Other
// errors come back as they are.
func WaitError(err error, what, next string) error {
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return withFix(ExitTimedOut, "TimedOut", next, fmt.Errorf("cannot see %s in time", what))
	case errors.Is(err, context.Canceled):
		return withFix(ExitInterrupted, "Interrupted", next, fmt.Errorf("cannot wait for %s: interrupted", what))
	default:
		return err
	}
}
