package v1alpha1

import (
	"reflect"
	"testing"
)

// TestTemplatesSayWhatClustersSay: a field that a ClusterSpec gains is in templates too, or has a reason here.
func TestTemplatesSayWhatClustersSay(t *testing.T) {
	left := map[string]string{
		"Recycle": "it is a moment in the life of one cluster",
		"Hosts":   "templates have Count",
		"Host":    "the address belongs to one cluster", "CertSANs": "the names belong to one cluster",
		"ExternalAddress": "the address belongs to one cluster",
	}
	for _, pair := range [][2]any{
		{ClusterSpec{}, ClusterTemplateSpec{}}, {ControlPlaneSpec{}, TemplateControlPlane{}},
		{WorkerPool{}, TemplateWorkerPool{}}, {EndpointSpec{}, TemplateEndpoint{}},
	} {
		cluster, template := reflect.TypeOf(pair[0]), reflect.TypeOf(pair[1])
		for i := range cluster.NumField() {
			field := cluster.Field(i).Name
			if _, found := template.FieldByName(field); !found && left[field] == "" {
				t.Errorf("%s has %s and %s has not: add it, or say here why not", cluster.Name(), field, template.Name())
			}
		}
	}
}
