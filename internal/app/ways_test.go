package app

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"k8s.io/client-go/rest"
	deletecmd "k8s.io/kubectl/pkg/cmd/delete"
	"k8s.io/kubectl/pkg/cmd/get"
	cmdutil "k8s.io/kubectl/pkg/cmd/util"
)

// visitor is one person with every way in: a kubeconfig as `slipway login` writes it, and the cookie of a browser.
type visitor struct {
	name, server, kubeconfig, token string
	cookie                          *http.Cookie
	client                          *http.Client
}

// sameQuestion is one request that each way in can make. Without a name it is a list; remove asks for a deletion that the
// server only tries.
type sameQuestion struct {
	group, resource, namespace, name string
	everywhere, remove               bool
}

// String is what a person would type.
func (q sameQuestion) String() string {
	verb := "get"
	if q.remove {
		verb = "delete"
	}
	return strings.Join(append([]string{verb}, q.words()...), " ")
}

func (q sameQuestion) words() []string {
	words := []string{q.resource}
	if q.group != "" {
		words[0] += "." + q.group
	}
	if q.name != "" {
		words = append(words, q.name)
	}
	if q.everywhere {
		words = append(words, "-A")
	}
	if q.namespace != "" {
		words = append(words, "-n", q.namespace)
	}
	return words
}

func (q sameQuestion) args() []string {
	if q.remove {
		return append([]string{"delete"}, append(q.words(), "--dry-run=server", "-o", "name")...)
	}
	return append([]string{"get"}, append(q.words(), "-o", "json")...)
}

func (q sameQuestion) path() string {
	path := "/api/v1"
	if q.group != "" {
		path = "/apis/" + q.group + "/v1alpha1"
	}
	if q.namespace != "" {
		path += "/namespaces/" + q.namespace
	}
	path += "/" + q.resource
	if q.name != "" {
		path += "/" + q.name
	}
	if q.remove {
		path += "?dryRun=All"
	}
	return path
}

// sameAnswer is what one way in gives: objects, each with its UID and what is wanted of it, or a refusal.
type sameAnswer struct {
	Names   []string
	Objects map[string]string
	Refused string
}

// String is the answer as a golden file has it.
func (a sameAnswer) String() string {
	switch {
	case a.Refused != "":
		return a.Refused
	case len(a.Names) == 0:
		return "nothing"
	default:
		return strings.Join(a.Names, " ")
	}
}

// died is what kubectl's code ends the process with.
type died struct{ message string }

// guarded runs a command whose code may be kubectl's, and gives what it printed or died of. cmdutil.BehaviorOnFatal must
// panic with died.
func guarded(do func(out io.Writer) error) (printed, refused string) {
	var out bytes.Buffer
	defer func() {
		if cause := recover(); cause != nil {
			f, ours := cause.(died)
			if !ours {
				panic(cause)
			}
			refused = strings.TrimPrefix(strings.TrimSpace(f.message), "Error from server ")
		}
	}()
	if err := do(&out); err != nil {
		return out.String(), err.Error()
	}
	return out.String(), ""
}

// slipway runs one command line of the program.
func (v *visitor) slipway(ctx context.Context, out io.Writer, args ...string) error {
	var errOut bytes.Buffer
	if code := Main(ctx, append([]string{"--kubeconfig", v.kubeconfig}, args...), strings.NewReader(""), out, &errOut); code != 0 {
		return fmt.Errorf("exit code %d: %s", code, &errOut)
	}
	return nil
}

// kubectl runs get or delete as kubectl itself has them, with the person's kubeconfig.
func (v *visitor) kubectl(ctx context.Context, out io.Writer, args ...string) error {
	flags := genericclioptions.NewConfigFlags(true)
	*flags.KubeConfig = v.kubeconfig
	factory, streams := cmdutil.NewFactory(flags), genericiooptions.IOStreams{In: strings.NewReader(""), Out: out, ErrOut: io.Discard}
	root := &cobra.Command{Use: "kubectl", SilenceErrors: true, SilenceUsage: true}
	flags.AddFlags(root.PersistentFlags())
	root.AddCommand(get.NewCmdGet("kubectl", factory, streams), deletecmd.NewCmdDelete(factory, streams))
	root.SetArgs(args)
	return root.ExecuteContext(ctx)
}

// request is what a program sends with the token, or a page of the server with the cookie.
func (v *visitor) request(ctx context.Context, browser bool, method, path string, body io.Reader) (*http.Request, error) {
	r, err := http.NewRequestWithContext(ctx, method, v.server+path, body)
	if err != nil {
		return nil, err
	}
	r.Header.Set("Accept", "application/json")
	if browser {
		r.AddCookie(v.cookie)
		r.Header.Set("Origin", v.server)
	} else {
		r.Header.Set("Authorization", "Bearer "+v.token)
	}
	return r, nil
}

func (v *visitor) http(ctx context.Context, browser bool, q sameQuestion) (string, string, error) {
	method := http.MethodGet
	if q.remove {
		method = http.MethodDelete
	}
	request, err := v.request(ctx, browser, method, q.path(), nil)
	if err != nil {
		return "", "", err
	}
	response, err := v.client.Do(request)
	if err != nil {
		return "", "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode < 300 {
		return string(body), "", err
	}
	var status metav1.Status
	if err := json.Unmarshal(body, &status); err != nil || status.Message == "" {
		return "", "", fmt.Errorf("%s is refused without a word: %s", q, body)
	}
	return "", fmt.Sprintf("(%s): %s", status.Reason, status.Message), nil
}

// ask asks the same by each way in and gives the one answer.
func (v *visitor) ask(t *testing.T, q sameQuestion) sameAnswer {
	t.Helper()
	answers := map[string]sameAnswer{}
	for way, do := range map[string]func(context.Context, io.Writer, ...string) error{"slipway": v.slipway, "kubectl": v.kubectl} {
		printed, refused := guarded(func(out io.Writer) error { return do(t.Context(), out, q.args()...) })
		answers[way] = q.read(t, printed, refused)
	}
	for way, browser := range map[string]bool{"token": false, "browser": true} {
		printed, refused, err := v.http(t.Context(), browser, q)
		if err != nil {
			t.Fatal(err)
		}
		answers[way] = q.read(t, printed, refused)
	}
	for way, got := range answers {
		if diff := cmp.Diff(answers["token"], got); diff != "" {
			t.Errorf("%s: %s sees by %s what it does not see with a token (-token +%s):\n%s", q, v.name, way, way, diff)
		}
	}
	return answers["token"]
}

// read reads an object or a list. What a deletion that is only tried answers with differs by who asks; that it is
// allowed is the answer.
func (q sameQuestion) read(t *testing.T, printed, refused string) sameAnswer {
	t.Helper()
	switch {
	case refused != "":
		return sameAnswer{Refused: refused}
	case q.remove:
		return sameAnswer{Names: []string{"allowed"}}
	default:
		return objectsIn(t, printed)
	}
}

func objectsIn(t *testing.T, printed string) sameAnswer {
	t.Helper()
	var one unstructured.Unstructured
	if err := json.Unmarshal([]byte(printed), &one.Object); err != nil {
		t.Fatalf("%v: %s", err, printed)
	}
	items := []unstructured.Unstructured{one}
	if one.IsList() {
		list, err := one.ToList()
		if err != nil {
			t.Fatal(err)
		}
		items = list.Items
	}
	a := sameAnswer{Names: []string{}, Objects: map[string]string{}}
	for _, o := range items {
		name := strings.TrimPrefix(o.GetNamespace()+"/"+o.GetName(), "/")
		wanted, err := json.Marshal(o.Object["spec"])
		if err != nil {
			t.Fatal(err)
		}
		a.Names = append(a.Names, name)
		a.Objects[name] = string(o.GetUID()) + " " + string(wanted)
	}
	slices.Sort(a.Names)
	return a
}

// anonymous gives an HTTP client that trusts the server and brings no credential of its own.
func (i *installation) anonymous(t *testing.T) *http.Client {
	t.Helper()
	c, err := rest.HTTPClientFor(rest.AnonymousClientConfig(i.config))
	if err != nil {
		t.Fatal(err)
	}
	c.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return c
}
