use serde_json::{Value, json};

use super::*;

fn ingress(host: &str, age: u8, class: &str) -> Arc<Ingress> {
    let object: Value = json!({
        "metadata": { "creationTimestamp": format!("2026-01-01T00:00:0{age}Z") },
        "spec": { "ingressClassName": class, "rules": [{ "host": host }] },
    });
    Arc::new(serde_json::from_value(object).unwrap())
}

fn key(name: &str) -> Key {
    Key::new("ns", name)
}

fn class(controller: &str) -> Arc<IngressClass> {
    let object = json!({ "metadata": { "name": "c" }, "spec": { "controller": controller } });
    Arc::new(serde_json::from_value(object).unwrap())
}

/// A roll of what changes.
#[derive(Default)]
struct World {
    roll: Roll,
    inputs: Inputs,
}

impl World {
    fn update(&mut self) -> Moved {
        let (changed, sightings) = (Changed::default(), &mut Sightings::default());
        self.roll.update(&self.inputs, &Options::default(), &changed, sightings)
    }

    fn set(&mut self, name: &str, host: &str, age: u8) {
        self.inputs.ingresses.insert(key(name), ingress(host, age, "c"));
    }

    fn group(&self, of: &str) -> Vec<String> {
        self.roll.group(&key(of)).iter().map(|key| key.name.to_string()).collect()
    }
}

fn ours() -> World {
    let mut world = World::default();
    let controller = Options::default().controllers.first().cloned().unwrap();
    world.inputs.classes.insert("c".into(), class(&controller));
    world
}

#[test]
fn those_of_one_host_are_a_group_the_oldest_first() {
    let mut world = ours();
    for (name, host, age) in [("a", "x.test", 2), ("b", "y.test", 1), ("c", "x.test", 1)] {
        world.set(name, host, age);
    }
    let moved = world.update();
    assert_eq!(moved.readings.len(), 3);
    assert_eq!(world.group("a"), ["c", "a"]);
    assert_eq!(world.group("b"), ["b"]);
    // One of them goes elsewhere: who was with it has to be looked at.
    world.roll.set_first(&key("a"), &key("c"));
    world.set("a", "y.test", 2);
    let moved = world.update();
    assert_eq!(moved.readings.keys().collect::<Vec<_>>(), [&key("a")]);
    assert_eq!(moved.groups, [key("c")].into());
    assert_eq!(world.group("b"), ["b", "a"]);
    assert_eq!(world.group("c"), ["c"]);
    // Nothing is read that has not changed.
    let moved = world.update();
    assert!(moved.readings.is_empty() && moved.groups.is_empty());
}

#[test]
fn a_class_that_passes_to_another_controller_takes_its_ingresses_along() {
    let mut world = ours();
    world.set("a", "x.test", 1);
    world.inputs.ingresses.insert(key("b"), ingress("y.test", 1, "d"));
    world.update();
    let others = |world: &World| world.roll.others().keys().cloned().collect::<Vec<_>>();
    assert_eq!(others(&world), [key("b")]);
    world.inputs.classes.insert("c".into(), class("example.com/another"));
    let moved = world.update();
    assert!(moved.readings.is_empty());
    assert_eq!(moved.groups, [key("a")].into());
    assert_eq!(others(&world), [key("a"), key("b")]);
    assert!(world.group("a").is_empty());
    world = World { inputs: Inputs { classes: ours().inputs.classes, ..world.inputs }, ..world };
    assert_eq!(world.update().readings.keys().collect::<Vec<_>>(), [&key("a")]);
    assert_eq!(others(&world), [key("b")]);
}
