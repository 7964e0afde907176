// Copyright (C) 2026 The Lockstep Authors
//
// Licensed under the Apache License, Version 2.0 (the "License");
// you may not use this file except in compliance with the License.
// You may obtain a copy of the License at
//
// http://www.apache.org/licenses/LICENSE-2.0
//
// Unless required by applicable law or agreed to in writing, software
// distributed under the License is distributed on an "AS IS" BASIS,
// WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
// See the License for the specific language governing permissions and
// limitations under the License.

package io.lockstep.bridge.standby;

import com.google.inject.Inject;
import io.lockstep.bridge.sidecar.Sidecar;
import java.io.OutputStream;
import java.lang.reflect.InvocationHandler;
import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Method;
import java.lang.reflect.Proxy;
import java.util.LinkedHashSet;
import java.util.Set;
import org.aopalliance.intercept.MethodInterceptor;
import org.aopalliance.intercept.MethodInvocation;

/**
 * Gives each SSH command a stream for its errors that adds why an update failed. Gerrit says only
 * "internal server error", and most of its commands are final classes.
 *
 * <p>The intercepted method returns the factory of all commands. The factory and its commands are
 * wrapped with all their interfaces, so that the SSH server finds the ones that it looks for.
 */
final class RefusalOverSsh implements MethodInterceptor {
  @Inject private Sidecar sidecar;

  @Override
  public Object invoke(MethodInvocation call) throws Throwable {
    Object factory = call.proceed();
    return factory == null ? null : wrap(factory, new Factory(factory));
  }

  private static Object wrap(Object wrapped, InvocationHandler handler) {
    Set<Class<?>> interfaces = new LinkedHashSet<>();
    for (Class<?> one = wrapped.getClass(); one != null; one = one.getSuperclass()) {
      interfaces.addAll(Set.of(one.getInterfaces()));
    }
    return Proxy.newProxyInstance(
        RefusalOverSsh.class.getClassLoader(), interfaces.toArray(Class<?>[]::new), handler);
  }

  private static Object pass(Object to, Method method, Object[] arguments) throws Throwable {
    try {
      return method.invoke(to, arguments);
    } catch (InvocationTargetException e) {
      throw e.getCause();
    }
  }

  private final class Factory implements InvocationHandler {
    private final Object factory;

    Factory(Object factory) {
      this.factory = factory;
    }

    @Override
    public Object invoke(Object proxy, Method method, Object[] arguments) throws Throwable {
      Object made = pass(factory, method, arguments);
      boolean isCommand = method.getName().equals("createCommand") && made != null;
      return isCommand ? wrap(made, new Command(made)) : made;
    }
  }

  private final class Command implements InvocationHandler {
    private final Object command;

    Command(Object command) {
      this.command = command;
    }

    @Override
    public Object invoke(Object proxy, Method method, Object[] arguments) throws Throwable {
      if (method.getName().equals("setErrorStream")
          && arguments[0] instanceof OutputStream errors) {
        return pass(command, method, new Object[] {new SshErrors(errors, sidecar)});
      }
      return pass(command, method, arguments);
    }
  }
}
