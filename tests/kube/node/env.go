package main

import (
	"context"
	"fmt"
	"sort"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	resources "k8s.io/kubernetes/pkg/api/v1/resource"
	"k8s.io/kubernetes/pkg/fieldpath"
	"k8s.io/kubernetes/third_party/forked/golang/expansion"
)

// environment is the variables of a container.
type environment map[string]string

func (e environment) list() []string {
	var list []string
	for name, value := range e {
		list = append(list, name+"="+value)
	}
	sort.Strings(list)
	return list
}

func (e environment) expand(text string) string {
	return expansion.Expand(text, expansion.MappingFuncFor(e))
}

func (w *worker) environment(ctx context.Context, c *corev1.Container, img *image) (environment, error) {
	pod := w.latest()
	env := environment{
		"PATH":     "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		"HOSTNAME": pod.Name,
		"HOME":     "/",
		// What every pod is told of the API server.
		"KUBERNETES_SERVICE_HOST":       serviceOfServer.String(),
		"KUBERNETES_SERVICE_PORT":       "443",
		"KUBERNETES_SERVICE_PORT_HTTPS": "443",
		"KUBERNETES_PORT":               "tcp://" + serviceOfServer.String() + ":443",
	}
	for name, value := range img.Env {
		env[name] = value
	}
	for _, from := range c.EnvFrom {
		values, err := w.allOf(ctx, from)
		if err != nil {
			return nil, err
		}
		for name, value := range values {
			env[from.Prefix+name] = value
		}
	}
	for _, variable := range c.Env {
		value, found, err := w.valueOf(ctx, c, variable, env)
		if err != nil {
			return nil, fmt.Errorf("env %s: %w", variable.Name, err)
		}
		if found {
			env[variable.Name] = value
		}
	}
	return env, nil
}

func (w *worker) allOf(ctx context.Context, from corev1.EnvFromSource) (map[string]string, error) {
	core := w.agent.client.CoreV1()
	if from.ConfigMapRef != nil {
		object, err := core.ConfigMaps(w.namespace).Get(ctx, from.ConfigMapRef.Name, metav1.GetOptions{})
		if err != nil {
			return nil, unless(from.ConfigMapRef.Optional, err)
		}
		return object.Data, nil
	}
	if from.SecretRef == nil {
		return nil, nil
	}
	object, err := core.Secrets(w.namespace).Get(ctx, from.SecretRef.Name, metav1.GetOptions{})
	if err != nil {
		return nil, unless(from.SecretRef.Optional, err)
	}
	values := map[string]string{}
	for name, value := range object.Data {
		values[name] = string(value)
	}
	return values, nil
}

// unless forgives an error where the reference is optional and the object is missing.
func unless(optional *bool, err error) error {
	if optional != nil && *optional && gone(err) {
		return nil
	}
	return err
}

func (w *worker) valueOf(ctx context.Context, c *corev1.Container, v corev1.EnvVar, env environment) (string, bool, error) {
	from := v.ValueFrom
	if from == nil {
		return env.expand(v.Value), true, nil
	}
	core := w.agent.client.CoreV1()
	switch {
	case from.FieldRef != nil:
		value, err := w.field(from.FieldRef.FieldPath)
		return value, true, err
	case from.ResourceFieldRef != nil:
		value, err := resources.ExtractContainerResourceValue(from.ResourceFieldRef, c)
		return value, true, err
	case from.ConfigMapKeyRef != nil:
		ref := from.ConfigMapKeyRef
		object, err := core.ConfigMaps(w.namespace).Get(ctx, ref.Name, metav1.GetOptions{})
		if err != nil {
			return "", false, unless(ref.Optional, err)
		}
		value, found := object.Data[ref.Key]
		return value, found, missing(found, ref.Optional, ref.Key)
	case from.SecretKeyRef != nil:
		ref := from.SecretKeyRef
		object, err := core.Secrets(w.namespace).Get(ctx, ref.Name, metav1.GetOptions{})
		if err != nil {
			return "", false, unless(ref.Optional, err)
		}
		value, found := object.Data[ref.Key]
		return string(value), found, missing(found, ref.Optional, ref.Key)
	}
	return "", false, fmt.Errorf("no source")
}

func missing(found bool, optional *bool, key string) error {
	if found || optional != nil && *optional {
		return nil
	}
	return fmt.Errorf("no key %q", key)
}

// field is a value of the downward API.
func (w *worker) field(path string) (string, error) {
	pod := w.latest()
	switch path {
	case "status.podIP", "status.podIPs":
		return w.place.address.String(), nil
	case "status.hostIP", "status.hostIPs":
		return w.node.address.String(), nil
	case "spec.nodeName":
		return pod.Spec.NodeName, nil
	case "spec.serviceAccountName":
		return pod.Spec.ServiceAccountName, nil
	}
	return fieldpath.ExtractFieldPathAsString(pod, path)
}

// arguments is the command line: what the pod says, else what the image says.
func arguments(c *corev1.Container, img *image, env environment) []string {
	command, args := img.Entrypoint, img.Args
	if len(c.Command) > 0 {
		command, args = c.Command, nil
	}
	if len(c.Args) > 0 {
		args = c.Args
	}
	var line []string
	for _, word := range append(append([]string{}, command...), args...) {
		line = append(line, env.expand(word))
	}
	return line
}
